-- Queries over sweeps and corrections; `-- name:` starts one.

-- name: begin
INSERT INTO reconciliations (cell, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed)
VALUES (%(cell)s, %(why)s, %(scope)s, %(at)s, NULL, %(total)s, 0, 0, 0, 0, 0) RETURNING id

-- name: count
UPDATE reconciliations SET asked = asked + %(asked)s, agreed = agreed + %(agreed)s, corrected = corrected + %(corrected)s,
    unknown = unknown + %(unknown)s, failed = failed + %(failed)s WHERE cell = %(cell)s AND id = %(id)s

-- name: write_total
UPDATE reconciliations SET total = %(total)s WHERE cell = %(cell)s AND id = %(id)s

-- name: finish
UPDATE reconciliations SET finished_at = %(at)s WHERE cell = %(cell)s AND id = %(id)s

-- name: open
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations WHERE cell = %(cell)s AND finished_at IS NULL ORDER BY id

-- name: get
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations WHERE cell = ANY (%(cells)s::int[]) AND id = %(id)s

-- name: list
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations WHERE cell = ANY (%(cells)s::int[]) AND id < coalesce(%(cursor)s::bigint, 9223372036854775807)
ORDER BY id DESC LIMIT %(limit)s

-- name: correct
INSERT INTO corrections (cell, reconciliation, client, at, believed, connections, said)
SELECT %(cell)s, reconciliation, client, at, believed, connections, said
FROM unnest(%(reconciliation)s::bigint[], %(client)s::text[], %(at)s::bigint[], %(believed)s::text[], %(connections)s::bigint[], %(said)s::text[])
     WITH ORDINALITY AS given (reconciliation, client, at, believed, connections, said, place)
ORDER BY place

-- name: corrections
SELECT id, reconciliation, client, at, believed, connections, said FROM corrections
WHERE cell = ANY (%(cells)s::int[]) AND reconciliation = %(reconciliation)s AND id > %(cursor)s ORDER BY id LIMIT %(limit)s

-- name: all_corrections
SELECT id, reconciliation, client, at, believed, connections, said FROM corrections
WHERE cell = ANY (%(cells)s::int[]) AND id > %(cursor)s ORDER BY id LIMIT %(limit)s

-- name: purge
DELETE FROM reconciliations WHERE cell = %(cell)s AND finished_at < %(before)s

-- name: purge_corrections
DELETE FROM corrections WHERE cell = %(cell)s AND id = ANY (ARRAY(
    SELECT id FROM corrections WHERE cell = %(cell)s AND at < %(before)s LIMIT %(limit)s))
