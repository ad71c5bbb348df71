-- What is kept of the attempts of a delivery, and a retry that changes nothing of what was before it.

-- `tries`: JSON, [[ended at, milliseconds or null, outcome, answer or null], ...], the newest ones, oldest first.
ALTER TABLE deliveries ADD COLUMN tries TEXT;
-- When an operator retried or released it last: its age counts from there. `attempts_before`: of `attempts`, those before that.
ALTER TABLE deliveries ADD COLUMN renewed_at INTEGER;
ALTER TABLE deliveries ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0;
-- The target of a webhook has the path from now on. What is unfinished keeps its target and its lane; counted as tried before, it is
-- what later deliveries of the same rule and client wait for.
UPDATE deliveries SET retrying = 1 WHERE state = 'due' AND retrying = 0;
