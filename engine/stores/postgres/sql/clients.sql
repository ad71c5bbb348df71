-- Named statements over client states; `-- name:` starts one.

-- name: write
INSERT INTO clients (cell, id, last, state)
SELECT %s, id, last, state FROM unnest(%s::text[], %s::bigint[], %s::bytea[]) AS given (id, last, state)
ON CONFLICT (cell, id) DO UPDATE SET last = excluded.last, state = excluded.state

-- name: delete
DELETE FROM clients WHERE cell = %s AND id = ANY(%s::text[])

-- name: load_first
SELECT id, state FROM clients WHERE cell = %s ORDER BY id LIMIT %s

-- name: load_next
SELECT id, state FROM clients WHERE cell = %s AND id > %s ORDER BY id LIMIT %s

-- name: forgotten
SELECT client, at FROM forgotten WHERE cell = %s ORDER BY at, client

-- name: write_forgotten
INSERT INTO forgotten (cell, client, at)
SELECT %s, client, at FROM unnest(%s::text[], %s::bigint[]) AS given (client, at)
ON CONFLICT (cell, client) DO UPDATE SET at = excluded.at

-- name: delete_forgotten
DELETE FROM forgotten WHERE cell = %s AND client = ANY(%s::text[])
