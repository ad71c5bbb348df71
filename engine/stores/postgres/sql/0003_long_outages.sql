-- The name of an outage holds what an inventory says, and may be longer than an index takes: the index holds its digest.
ALTER TABLE outage_members DROP CONSTRAINT outage_members_pkey;
CREATE UNIQUE INDEX outage_members_of ON outage_members (cell, md5(outage), client);
