-- Silences of rules (patterns for their names, as JSON), and those that were planned for an instant to come.

ALTER TABLE silences ADD COLUMN rules TEXT NOT NULL DEFAULT '[]';
ALTER TABLE silences ADD COLUMN planned INTEGER NOT NULL DEFAULT 0;
