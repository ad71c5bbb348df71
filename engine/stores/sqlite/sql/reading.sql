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

-- name: alert_life
SELECT fired_at, detail FROM alerts WHERE id = ?

-- name: newest_journal
SELECT id, at, source, events FROM journal ORDER BY id DESC LIMIT ?

-- name: alerts_of
-- Open alerts by their own id, or by that of what they were told in.
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts INDEXED BY alerts_open
WHERE resolved_at IS NULL AND (id = :id OR json_extract(detail, '$[2]') = :id)
ORDER BY started_at DESC, id DESC LIMIT :limit

-- name: firing_notifications
-- What was told together is one row, and what nobody has acknowledged comes first.
SELECT min(id) AS id, rule, min(client) AS client, source, state, reason, min(started_at) AS started_at, resolved_at, key,
       max(acknowledged_by) AS acknowledged_by, coalesce(nullif(json_extract(detail, '$[2]'), ''), id) AS notification,
       count(*) AS number, count(acknowledged_by) AS acknowledged
FROM alerts INDEXED BY alerts_open WHERE resolved_at IS NULL AND state = 'firing'
GROUP BY notification ORDER BY count(acknowledged_by) = count(*), min(started_at) DESC, notification DESC LIMIT ?

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
