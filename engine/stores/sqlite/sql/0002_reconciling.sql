-- Asking whether what is believed is true: sweeps through the clients, and what was corrected.

-- One sweep. `scope` says whom it is about when not about everybody (JSON). It goes on while `finished_at` is null, also
-- after a restart; the counters are of clients whose answer is final.
CREATE TABLE reconciliations (
    id INTEGER PRIMARY KEY,
    why TEXT NOT NULL,
    scope TEXT,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    total INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    agreed INTEGER NOT NULL,
    corrected INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    failed INTEGER NOT NULL
);
CREATE INDEX reconciliations_open ON reconciliations (id) WHERE finished_at IS NULL;

-- An answer that contradicted what was believed, and what the events had said (JSON). `reconciliation`: null when it was asked
-- for another reason than a sweep.
CREATE TABLE corrections (
    id INTEGER PRIMARY KEY,
    reconciliation INTEGER,
    client TEXT NOT NULL,
    at INTEGER NOT NULL,
    believed TEXT NOT NULL,
    connections INTEGER NOT NULL,
    said TEXT NOT NULL
);
CREATE INDEX corrections_of ON corrections (reconciliation, id);
CREATE INDEX corrections_at ON corrections (at);
