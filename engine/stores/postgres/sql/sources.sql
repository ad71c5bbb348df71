-- Named statements over sources, gaps and the quarantine; `-- name:` starts one.

-- name: write
INSERT INTO sources AS old (cell, name, position, caught_up_to, last_event_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (cell, name) DO UPDATE SET position = coalesce(excluded.position, old.position),
caught_up_to = coalesce(excluded.caught_up_to, old.caught_up_to), last_event_at = coalesce(excluded.last_event_at, old.last_event_at)

-- name: write_gap
INSERT INTO gaps (cell, source, noted_at, from_at, to_at, reason) VALUES (%s, %s, %s, %s, %s, %s)

-- name: quarantine
INSERT INTO quarantine (cell, received_at, source, reason, raw)
SELECT %s, %s, %s, given.* FROM unnest(%s::text[], %s::bytea[]) AS given

-- name: delete_quarantined
DELETE FROM quarantine WHERE cell = %s AND id = ANY(%s::bigint[])

-- name: trim_quarantine
-- What is old, and of more than so many the oldest.
DELETE FROM quarantine WHERE cell = %(cell)s AND (received_at < %(before)s OR id <= (
    SELECT id FROM quarantine WHERE cell = %(cell)s ORDER BY id DESC OFFSET %(kept)s LIMIT 1))
