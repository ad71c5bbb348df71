-- Named statements over what is posted to any replica for the owner of a cell; `-- name:` starts one.

-- name: post
INSERT INTO inbox (cell, source, replica, body) VALUES (%s, %s, %s, %s)

-- name: waiting
SELECT id, received_at, source, body FROM inbox WHERE cell = %s AND id <> ALL(%s) ORDER BY id LIMIT %s

-- name: backlog
-- About how many rows wait: numbers are given to all cells, so it may be fewer.
SELECT coalesce(max(id) - min(id), 0) FROM inbox WHERE cell = %s

-- name: delete
-- A number may come twice: a failover to a standby that lagged puts the sequence back. A number and an instant do not.
DELETE FROM inbox USING unnest(%(ids)s::bigint[], %(received)s::timestamptz[]) AS applied (id, at)
WHERE inbox.cell = %(cell)s AND inbox.id = applied.id AND inbox.received_at = applied.at

-- name: ring
SELECT pg_notify(%s, %s)

-- name: ask
-- Its number is drawn by lot (52 bits, which every reader of JSON keeps): one of a sequence comes again after a failover to a standby that
-- lagged, and an operator would get the answer to somebody else's act. All cells that have a part in it have the same, and `now()`.
WITH given AS MATERIALIZED (SELECT ('x' || substr(md5(gen_random_uuid()::text), 1, 13))::bit(52)::bigint AS id)
INSERT INTO acts (cell, id, asked_at, replica, name, arguments)
SELECT cell, id, now(), %s, %s, %s FROM given, unnest(%s::integer[]) AS cell RETURNING id

-- name: acts_waiting
SELECT id, name, arguments, floor(extract(epoch FROM asked_at) * 1000)::bigint, extract(epoch FROM clock_timestamp() - asked_at)::float8
FROM acts WHERE cell = %s AND done_at IS NULL ORDER BY asked_at, id LIMIT %s

-- name: take_act
UPDATE acts SET done_at = clock_timestamp() WHERE cell = %s AND id = %s AND done_at IS NULL

-- name: answer_act
UPDATE acts SET done_at = coalesce(done_at, clock_timestamp()), answer = %s WHERE cell = %s AND id = %s

-- name: act
SELECT name, answer, extract(epoch FROM clock_timestamp() - done_at)::float8 FROM acts WHERE cell = ANY(%s) AND id = %s ORDER BY cell

-- name: purge_acts
DELETE FROM acts WHERE cell = %s AND done_at < clock_timestamp() - make_interval(secs => %s::float8)
