-- What is moved when the wall clock was set; `-- name:` starts a query. `:step` and `:now` are milliseconds, `:now` after the step.

-- name: waiting
UPDATE deliveries INDEXED BY deliveries_fresh SET due_at = due_at + :step, decided_at = decided_at + :step
WHERE state = 'due' AND retrying = 0

-- name: retrying
-- Those that are due again, and those that are held.
UPDATE deliveries SET due_at = due_at + :step, decided_at = decided_at + :step WHERE id IN (
    SELECT id FROM deliveries INDEXED BY deliveries_blocking WHERE state IN ('due', 'held') AND retrying = 1)

-- name: rules
UPDATE rules SET missing_since = missing_since + :step WHERE missing_since IS NOT NULL

-- name: gaps
UPDATE gaps SET noted_at = noted_at + :step WHERE noted_at > :now

-- name: sources
UPDATE sources SET caught_up_to = min(caught_up_to, :now), last_event_at = min(last_event_at, :now)

-- name: meta
UPDATE meta SET value = CAST(:now AS TEXT)
WHERE key IN ('alive_at', 'reconcile_planned', 'gaps_swept') AND CAST(value AS INTEGER) > :now

-- name: ended_deliveries
UPDATE deliveries SET decided_at = decided_at + :step, due_at = due_at + :step
WHERE state NOT IN ('due', 'held') AND decided_at > :now

-- name: ended_alerts
UPDATE alerts SET resolved_at = resolved_at + :step WHERE resolved_at > :now

-- name: quarantine
UPDATE quarantine SET received_at = received_at + :step WHERE received_at > :now

-- name: sweeps
UPDATE reconciliations SET finished_at = finished_at + :step WHERE finished_at > :now

-- name: corrections
UPDATE corrections SET at = at + :step WHERE at > :now
