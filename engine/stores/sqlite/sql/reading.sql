-- What people ask of the SQLite store; `-- name:` starts a query. None of them writes.

-- name: alerts
-- Parameters that are null do not filter. Open states are also told as `resolved_at IS NULL`, which the index of open
-- alerts answers; everything else is one walk over the table, on a connection of its own.
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts
WHERE (:state IS NULL OR state = :state) AND (:rule IS NULL OR rule = :rule) AND (:client IS NULL OR client = :client)
  AND (:at IS NULL OR started_at < :at OR (started_at = :at AND id < :id))
ORDER BY started_at DESC, id DESC LIMIT :limit

-- name: alert
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts WHERE id = ?

-- name: open_alerts
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts INDEXED BY alerts_open
WHERE resolved_at IS NULL AND state = :state AND (:rule IS NULL OR rule = :rule) AND (:client IS NULL OR client = :client)
  AND (:at IS NULL OR started_at < :at OR (started_at = :at AND id < :id))
ORDER BY started_at DESC, id DESC LIMIT :limit

-- name: quarantine
SELECT id, received_at, source, reason, raw FROM quarantine WHERE :cursor IS NULL OR id < :cursor ORDER BY id DESC LIMIT :limit

-- name: open_count
SELECT count(*) FROM alerts INDEXED BY alerts_open WHERE resolved_at IS NULL AND state = ?

-- name: dead
SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_lost
                      WHERE state IN ('dead', 'discarded') AND state = 'dead' LIMIT ?)

-- name: quarantined
SELECT count(*) FROM (SELECT 1 FROM quarantine LIMIT ?)
