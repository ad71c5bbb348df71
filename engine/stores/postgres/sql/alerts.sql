-- Named statements over alerts and throttles; `-- name:` starts one.

-- name: write
INSERT INTO alerts (cell, id, rule, client, source, trigger, state, reason, started_at, due_at, fired_at, resolved_at, told, throttle_key,
                    detail, key, life, acknowledged_by)
SELECT %s, given.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::boolean[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS given
ON CONFLICT (cell, id) DO UPDATE SET state = excluded.state, reason = excluded.reason, due_at = excluded.due_at,
fired_at = excluded.fired_at, resolved_at = excluded.resolved_at, told = excluded.told,
throttle_key = excluded.throttle_key, detail = excluded.detail, life = excluded.life, acknowledged_by = excluded.acknowledged_by

-- name: delete
DELETE FROM alerts WHERE cell = %s AND id = ANY(%s::text[])

-- name: open
SELECT id, rule, client, source, trigger, state, reason, started_at, due_at, fired_at, resolved_at, told, throttle_key, detail,
       key, life, acknowledged_by
FROM alerts WHERE cell = %s AND resolved_at IS NULL ORDER BY started_at, id

-- name: purge
DELETE FROM alerts WHERE cell = %(cell)s AND id IN (
    SELECT id FROM alerts WHERE cell = %(cell)s AND resolved_at < %(before)s ORDER BY resolved_at LIMIT %(limit)s)

-- name: write_throttle
INSERT INTO throttles (cell, rule, key, firings) VALUES (%s, %s, %s, %s)
ON CONFLICT (cell, rule, md5(key)) DO UPDATE SET firings = excluded.firings

-- name: delete_throttle
DELETE FROM throttles WHERE cell = %s AND rule = %s AND md5(key) = md5(%s)

-- name: throttles
SELECT rule, key, firings FROM throttles WHERE cell = %s
