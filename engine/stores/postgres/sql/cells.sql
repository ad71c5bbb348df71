-- Named statements over cells and their owners; `-- name:` starts one.

-- name: register
INSERT INTO cells (name) VALUES (%s) ON CONFLICT (name) DO NOTHING

-- name: are_used
SELECT EXISTS (SELECT FROM cells WHERE epoch > 0)

-- name: divide
UPDATE cells SET groups = %s WHERE name = %s

-- name: undivide
UPDATE cells SET groups = NULL

-- name: division
SELECT name, groups FROM cells WHERE groups IS NOT NULL ORDER BY cell

-- name: journal_of
SELECT to_regclass('journal_' || cell), cell FROM cells WHERE name = %s

-- name: by_name
SELECT cell, name, epoch, token, owner, head, extract(epoch FROM until - clock_timestamp())::float8, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, wanted, placed FROM cells WHERE name = %s

-- name: all
SELECT cell, name, epoch, token, owner, head, extract(epoch FROM until - clock_timestamp())::float8, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, wanted, placed FROM cells ORDER BY cell

-- name: settle
-- Waits until a transaction of ours that still goes on in another session has ended: only then the answer stays true.
SELECT cell, name, epoch, token, owner, head, extract(epoch FROM until - clock_timestamp())::float8, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, wanted, placed FROM cells WHERE cell = %s FOR UPDATE

-- name: take
-- Nobody waits here: a row that is locked belongs to an owner at work, or to another replica that takes it.
UPDATE cells SET epoch = epoch + 1, token = %(token)s, owner = %(owner)s, taken_at = clock_timestamp(),
    until = clock_timestamp() + make_interval(secs => %(lease)s::float8),
    placed = CASE WHEN wanted NOT LIKE '~%%' THEN wanted END, wanted = NULL
WHERE cell = (SELECT cell FROM cells WHERE name = %(name)s AND (%(force)s OR until <= clock_timestamp()) FOR UPDATE SKIP LOCKED)
RETURNING cell, epoch, head

-- name: release
UPDATE cells SET until = clock_timestamp(), owner = NULL WHERE cell = %s AND epoch = %s AND token = %s

-- name: want
UPDATE cells SET wanted = %s WHERE name = %s

-- name: share_out
-- Only while nobody else has a wish.
UPDATE cells SET wanted = '~' || %s::text WHERE cell = %s AND wanted IS NULL AND placed IS NULL

-- name: describe
INSERT INTO replicas (cell, name, standing, epoch, journal_row, seen_at) VALUES (%s, %s, %s, %s, %s, clock_timestamp())
ON CONFLICT (cell, name) DO UPDATE SET standing = excluded.standing, epoch = excluded.epoch, journal_row = excluded.journal_row, seen_at = excluded.seen_at

-- name: replicas
SELECT cell, name, standing FROM replicas WHERE seen_at > clock_timestamp() - make_interval(secs => %s::float8) ORDER BY cell, name
