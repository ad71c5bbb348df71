-- What people ask of the PostgreSQL store; `-- name:` starts a query. None of them writes. `cells`: whose rows are read.

-- name: alerts
-- Parameters that are null do not filter. One walk over the table, on a connection of its own.
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by
FROM alerts WHERE cell = ANY (%(cells)s::int[])
  AND (%(state)s::text IS NULL OR state = %(state)s::text)
  AND (%(rule)s::text IS NULL OR rule = %(rule)s::text) AND (%(client)s::text IS NULL OR client = %(client)s::text)
  AND (%(at)s::bigint IS NULL OR started_at < %(at)s::bigint OR (started_at = %(at)s::bigint AND id < %(id)s::text))
ORDER BY started_at DESC, id DESC LIMIT %(limit)s

-- name: open_alerts
-- The same of those that go on, which an index holds.
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by
FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at IS NULL AND state = %(state)s::text
  AND (%(rule)s::text IS NULL OR rule = %(rule)s::text) AND (%(client)s::text IS NULL OR client = %(client)s::text)
  AND (%(at)s::bigint IS NULL OR started_at < %(at)s::bigint OR (started_at = %(at)s::bigint AND id < %(id)s::text))
ORDER BY started_at DESC, id DESC LIMIT %(limit)s

-- name: alert
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by
FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND id = %(id)s LIMIT 1

-- name: alert_life
SELECT fired_at, detail FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND id = %(id)s LIMIT 1

-- name: alerts_of
-- Open alerts by their own id, or by that of what they were told in.
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by
FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at IS NULL AND (id = %(id)s OR detail::json ->> 2 = %(id)s)
ORDER BY started_at DESC, id DESC LIMIT %(limit)s

-- name: firing_notifications
-- What was told together is one row, and what nobody has acknowledged comes first.
SELECT min(id), min(rule), min(client), min(source), state, min(reason), min(started_at), NULL::bigint, min(key), max(acknowledged_by),
       coalesce(nullif(detail::json ->> 2, ''), id) AS notification, count(*), count(acknowledged_by)
FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at IS NULL AND state = 'firing'
GROUP BY notification, state
ORDER BY count(acknowledged_by) = count(*), min(started_at) DESC, notification DESC LIMIT %(limit)s

-- name: open_counts
SELECT count(*) FILTER (WHERE state = 'firing'), count(*) FILTER (WHERE state = 'suppressed')
FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at IS NULL

-- name: dead
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE cell = ANY (%(cells)s::int[])
                      AND state IN ('dead', 'discarded') AND state = 'dead' LIMIT %(limit)s) AS found

-- name: quarantined
SELECT count(*) FROM (SELECT 1 FROM quarantine WHERE cell = ANY (%(cells)s::int[]) LIMIT %(limit)s) AS found

-- name: quarantine
SELECT id, received_at, source, reason, raw FROM quarantine
WHERE cell = ANY (%(cells)s::int[]) AND id < coalesce(%(cursor)s::bigint, 9223372036854775807) ORDER BY id DESC LIMIT %(limit)s

-- name: sources
-- Of a source that several cells read: the position of the first, and how far all of them have come.
SELECT name, (array_agg(position ORDER BY cell))[1], min(caught_up_to), max(last_event_at)
FROM sources WHERE cell = ANY (%(cells)s::int[]) GROUP BY name ORDER BY name

-- name: gaps
SELECT source, noted_at, from_at, to_at, reason FROM gaps WHERE cell = ANY (%(cells)s::int[]) ORDER BY id DESC LIMIT %(limit)s

-- name: rule_at
SELECT definition FROM rule_versions WHERE cell = ANY (%(cells)s::int[]) AND name = %(rule)s AND from_at <= %(at)s
ORDER BY from_at DESC LIMIT 1

-- name: silence
SELECT id, match, from_at, until_at, author, comment, rules, planned FROM silences
WHERE cell = ANY (%(cells)s::int[]) AND id = %(id)s ORDER BY cell LIMIT 1

-- name: silences
-- Parameters that are null do not filter. `state`: planned, active or expired. One that was made in every cell is told once.
SELECT * FROM (
    SELECT DISTINCT ON (id) id, match, from_at, until_at, author, comment, rules, planned FROM silences
    WHERE cell = ANY (%(cells)s::int[])
      AND (%(state)s::text IS NULL OR %(state)s::text = CASE WHEN until_at <= %(now)s THEN 'expired' WHEN from_at > %(now)s THEN 'planned' ELSE 'active' END)
      AND (%(author)s::text IS NULL OR author = %(author)s::text)
      AND (%(at)s::bigint IS NULL OR from_at < %(at)s::bigint OR (from_at = %(at)s::bigint AND id < %(id)s::text))
    ORDER BY id, cell) AS found
ORDER BY from_at DESC, id DESC LIMIT %(limit)s
