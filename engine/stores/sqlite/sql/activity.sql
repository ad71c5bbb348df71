-- What rules did lately, and what was recorded, in the SQLite store; `-- name:` starts a query. None of them writes.

-- name: alerts_since
-- Alerts that have ended since, and those that are open: an index for each, so that what ended long ago is not walked over.
SELECT rule, state, reason, fired_at IS NOT NULL, count(*) FROM (
    SELECT rule, state, reason, fired_at, started_at FROM alerts INDEXED BY alerts_open WHERE resolved_at IS NULL
    UNION ALL
    SELECT rule, state, reason, fired_at, started_at FROM alerts INDEXED BY alerts_ended WHERE resolved_at >= :since)
WHERE started_at >= :since GROUP BY rule, state, reason, fired_at IS NOT NULL

-- name: deliveries_since
-- Numbers of deliveries grow with time: the walk begins at the newest and ends at the first that is older.
SELECT rule, phase, state, count(*) FROM deliveries WHERE id > :after GROUP BY rule, phase, state

-- name: delivery_before
SELECT id FROM deliveries WHERE decided_at < :since ORDER BY id DESC LIMIT 1

-- name: recorded
SELECT id, at, source, events FROM journal WHERE (:before IS NULL OR id < :before) AND count > 0 ORDER BY id DESC LIMIT :limit
