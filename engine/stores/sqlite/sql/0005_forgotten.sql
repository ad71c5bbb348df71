-- Clients that were forgotten, and when: events of before must not bring them back. Kept for `clients.tombstone`.
CREATE TABLE IF NOT EXISTS forgotten (client TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
