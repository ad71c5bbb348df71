-- What rules did lately, and what was recorded, in the PostgreSQL store; `-- name:` starts a query. None of them writes.

-- name: alerts_since
SELECT rule, state, reason, fired_at IS NOT NULL AS fired, count(*) FROM (
    SELECT rule, state, reason, fired_at, started_at FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at IS NULL
    UNION ALL
    SELECT rule, state, reason, fired_at, started_at FROM alerts WHERE cell = ANY (%(cells)s::int[]) AND resolved_at >= %(since)s) AS found
WHERE started_at >= %(since)s GROUP BY rule, state, reason, fired

-- name: deliveries_since
SELECT rule, phase, state, count(*) FROM deliveries WHERE cell = ANY (%(cells)s::int[]) AND decided_at >= %(since)s GROUP BY rule, phase, state

-- name: recorded
SELECT id, at, source, events FROM journal
WHERE cell = %(cell)s AND id < coalesce(%(before)s::bigint, 9223372036854775807) AND count > 0
  AND id > (SELECT coalesce(max(value::bigint), 0) FROM meta WHERE cell = %(cell)s AND key = 'journal_purged_to')
ORDER BY id DESC LIMIT %(limit)s
