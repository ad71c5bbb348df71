-- What alerts need beyond their own rows: silences, and what goes on for many of them together.

-- What operators do not want to hear for a while, by whom and why. `match` is JSON: {field: [pattern, ...]}.
CREATE TABLE silences (
    id TEXT PRIMARY KEY,
    match TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX silences_end ON silences (until_at);

-- Groups, outages, schedules and bursts that go on: `value` is JSON, the arguments that make the value of the core again.
CREATE TABLE kept (kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;

-- Who ever joined an outage that goes on, and whether it is down: a row each, for there may be very many.
CREATE TABLE outage_members (outage TEXT NOT NULL, client TEXT NOT NULL, down INTEGER NOT NULL, PRIMARY KEY (outage, client)) WITHOUT ROWID;

-- `key`: of alerts about no client, JSON of {name: value}. `life`: JSON, what else the core keeps of an alert.
ALTER TABLE alerts ADD COLUMN key TEXT;
ALTER TABLE alerts ADD COLUMN life TEXT NOT NULL DEFAULT '[]';
ALTER TABLE alerts ADD COLUMN acknowledged_by TEXT;

-- What each rule said, and from when on: a delivery is explained by the rule that decided it, not by what became of it.
CREATE TABLE rule_versions (name TEXT NOT NULL, from_at INTEGER NOT NULL, definition TEXT NOT NULL, PRIMARY KEY (name, from_at)) WITHOUT ROWID;
INSERT INTO rule_versions (name, from_at, definition) SELECT name, loaded_at, definition FROM rules;
