-- Outages no longer keep when the latest of their members' changes occurred: who joins is decided by how big they are.
-- `outage_members.down` is 1 for a member that is down, 0 for one that is back, 2 for one that is back and went again without joining.
UPDATE kept SET value = json_remove(value, '$[4]') WHERE kind = 'outage';
