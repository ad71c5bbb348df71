-- The first schema. Migrations are numbered and never edited once released.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What was accepted, in order: the truth that everything else is derived from. One row is one batch of one source, or the
-- deadlines of one turn. `events` holds one JSON text a line, `previous` one little-endian 64-bit history position an
-- event (its client's entry before), `facts` what happened because time passed (MessagePack).
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    source TEXT NOT NULL,
    count INTEGER NOT NULL,
    events BLOB NOT NULL,
    previous BLOB NOT NULL,
    facts BLOB NOT NULL
);

-- A cache of the journal: client states as of some journal row, written lazily. `last` is the newest history position
-- about the client that the state contains.
CREATE TABLE clients (id TEXT PRIMARY KEY, last INTEGER NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    client TEXT,
    source TEXT,
    trigger TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    started_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    fired_at INTEGER,
    resolved_at INTEGER,
    told INTEGER NOT NULL,
    throttle_key TEXT NOT NULL,
    detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX alerts_open ON alerts (due_at) WHERE resolved_at IS NULL;
CREATE INDEX alerts_ended ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE throttles (rule TEXT NOT NULL, key TEXT NOT NULL, firings TEXT NOT NULL, PRIMARY KEY (rule, key)) WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    raw BLOB NOT NULL
);

CREATE TABLE sources (name TEXT PRIMARY KEY, position TEXT, caught_up_to INTEGER, last_event_at INTEGER) WITHOUT ROWID;

CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    noted_at INTEGER NOT NULL,
    from_at INTEGER,
    to_at INTEGER,
    reason TEXT NOT NULL
);

-- Rules that were loaded, so that a restart knows a new one from a known one, and can end the alerts of one that went.
CREATE TABLE rules (name TEXT PRIMARY KEY, definition TEXT NOT NULL, loaded_at INTEGER NOT NULL, missing_since INTEGER) WITHOUT ROWID;
