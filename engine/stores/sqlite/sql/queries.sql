-- Named queries of the SQLite store; `-- name:` starts one.

-- name: append_journal
INSERT INTO journal (id, at, source, count, events, previous, facts) VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: journal_after
SELECT id, at, events, facts FROM journal WHERE id > ? ORDER BY id

-- name: journal_row
SELECT at, source, events, previous, facts FROM journal WHERE id = ?

-- name: last_journal_id
SELECT coalesce(max(id), 0) FROM journal

-- name: last_journal_at
SELECT at FROM journal ORDER BY id DESC LIMIT 1

-- name: purge_journal_to
-- Rows that were stamped while the clock was ahead: their order says how old they are.
DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE id <= ? AND id <= ? ORDER BY id LIMIT ?)

-- name: purge_journal
DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE at < ? AND id <= ? ORDER BY id LIMIT ?)

-- name: write_client
INSERT INTO clients (id, last, state) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET last = excluded.last, state = excluded.state

-- name: delete_client
DELETE FROM clients WHERE id = ?

-- name: all_clients
SELECT id, last, state FROM clients

-- name: all_forgotten
SELECT client, at FROM forgotten ORDER BY at, client

-- name: write_forgotten
INSERT INTO forgotten (client, at) VALUES (?, ?) ON CONFLICT (client) DO UPDATE SET at = excluded.at

-- name: delete_forgotten
DELETE FROM forgotten WHERE client = ?

-- name: write_alert
INSERT INTO alerts (id, rule, client, source, trigger, state, reason, started_at, due_at, fired_at, resolved_at, told, throttle_key, detail,
                    key, life, acknowledged_by)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, due_at = excluded.due_at,
fired_at = excluded.fired_at, resolved_at = excluded.resolved_at, told = excluded.told,
throttle_key = excluded.throttle_key, detail = excluded.detail, life = excluded.life, acknowledged_by = excluded.acknowledged_by

-- name: delete_alert
DELETE FROM alerts WHERE id = ?

-- name: open_alerts
SELECT id, rule, client, source, trigger, state, reason, started_at, due_at, fired_at, resolved_at, told, throttle_key, detail,
       key, life, acknowledged_by
FROM alerts WHERE resolved_at IS NULL ORDER BY started_at, id

-- name: purge_alerts
DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE resolved_at < ? LIMIT ?)

-- name: write_throttle
INSERT INTO throttles (rule, key, firings) VALUES (?, ?, ?) ON CONFLICT (rule, key) DO UPDATE SET firings = excluded.firings

-- name: delete_throttle
DELETE FROM throttles WHERE rule = ? AND key = ?

-- name: all_throttles
SELECT rule, key, firings FROM throttles

-- name: quarantine
INSERT INTO quarantine (received_at, source, reason, raw) VALUES (?, ?, ?, ?)

-- name: quarantine_count
SELECT count(*) FROM quarantine

-- name: delete_quarantined
DELETE FROM quarantine WHERE id = ?

-- name: trim_quarantine
DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ? OR received_at < ?

-- name: write_source
INSERT INTO sources (name, position, caught_up_to, last_event_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET position = coalesce(excluded.position, position),
caught_up_to = coalesce(excluded.caught_up_to, caught_up_to), last_event_at = coalesce(excluded.last_event_at, last_event_at)

-- name: all_sources
SELECT name, position, caught_up_to, last_event_at FROM sources

-- name: write_gap
INSERT INTO gaps (source, noted_at, from_at, to_at, reason) VALUES (?, ?, ?, ?, ?)

-- name: all_gaps
SELECT source, noted_at, from_at, to_at, reason FROM gaps ORDER BY id DESC LIMIT ?

-- name: write_rule
INSERT INTO rules (name, definition, loaded_at, missing_since) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, missing_since = excluded.missing_since

-- name: delete_rule
DELETE FROM rules WHERE name = ?

-- name: all_rules
SELECT name, definition, loaded_at, missing_since FROM rules

-- name: write_meta
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: read_meta
SELECT value FROM meta WHERE key = ?
