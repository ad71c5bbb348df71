-- Named statements over what is posted to any replica for the owner of a cell; `-- name:` starts one.

-- name: post
INSERT INTO inbox (cell, source, replica, body) VALUES (%s, %s, %s, %s)

-- name: waiting
SELECT id, source, body FROM inbox WHERE cell = %s AND id <> ALL(%s) ORDER BY id LIMIT %s

-- name: backlog
-- About how many rows wait: numbers are given to all cells, so it may be fewer.
SELECT coalesce(max(id) - min(id), 0) FROM inbox WHERE cell = %s

-- name: delete
DELETE FROM inbox WHERE cell = %s AND id = ANY(%s)

-- name: ring
SELECT pg_notify(%s, %s)

-- name: ask
-- One number in all cells that have a part in the act; `now()` is the same for all of them.
WITH given AS (SELECT nextval(pg_get_serial_sequence('acts', 'id')) AS id)
INSERT INTO acts (cell, id, asked_at, replica, name, arguments)
SELECT cell, id, now(), %s, %s, %s FROM given, unnest(%s::integer[]) AS cell RETURNING id

-- name: acts_waiting
SELECT id, name, arguments, floor(extract(epoch FROM asked_at) * 1000)::bigint, extract(epoch FROM clock_timestamp() - asked_at)::float8
FROM acts
WHERE cell = %s AND done_at IS NULL ORDER BY id LIMIT %s

-- name: take_act
UPDATE acts SET done_at = clock_timestamp() WHERE cell = %s AND id = %s AND done_at IS NULL

-- name: answer_act
UPDATE acts SET done_at = coalesce(done_at, clock_timestamp()), answer = %s WHERE cell = %s AND id = %s

-- name: act
SELECT name, answer, extract(epoch FROM clock_timestamp() - done_at)::float8 FROM acts WHERE cell = ANY(%s) AND id = %s ORDER BY cell

-- name: purge_acts
DELETE FROM acts WHERE cell = %s AND done_at < clock_timestamp() - make_interval(secs => %s::float8)
