-- The outbox: every delivery that was decided; `-- name:` starts a query. `cell` is the writer's own cell, `cells` those that are read.
-- `cell + 0` keeps the planner from an index that begins with the cell where the id says everything: without statistics, as in a
-- new database, it takes a cell for a handful of rows and looks through all of them.

-- name: troubles
-- Whether anything is lost, and whether anything that comes later may have to wait: nearly always neither.
SELECT EXISTS (SELECT 1 FROM deliveries WHERE cell = %(cell)s AND state IN ('dead', 'discarded')),
       EXISTS (SELECT 1 FROM deliveries WHERE cell = %(cell)s AND state IN ('due', 'held') AND retrying)

-- name: insert
-- All in one statement; numbers are given in the order of the rows. A key that exists already, also among these, changes nothing.
INSERT INTO deliveries (cell, key, rule, client, group_key, clients, alert, action, target, lane, phase, state, retrying,
                        attempts, may_have_arrived, decided_at, due_at, last_error, request)
SELECT %(cell)s, key, rule, client, group_key, clients, alert, action, target, lane, phase, state, retrying, 0, false, at, at, error, request
FROM unnest(%(key)s::text[], %(rule)s::text[], %(client)s::text[], %(group_key)s::text[], %(clients)s::text[], %(alert)s::text[],
            %(action)s::text[], %(target)s::text[], %(lane)s::text[], %(phase)s::text[], %(state)s::text[], %(retrying)s::boolean[],
            %(at)s::bigint[], %(error)s::text[], %(request)s::text[])
     WITH ORDINALITY AS given (key, rule, client, group_key, clients, alert, action, target, lane, phase, state, retrying, at, error, request, place)
ORDER BY place
ON CONFLICT (cell, key) DO NOTHING RETURNING id, key

-- name: blocked
-- Of these lanes, given with the number of a row of each, the numbers that something earlier is before.
SELECT id FROM unnest(%(lane)s::text[], %(id)s::bigint[]) AS given (lane, id)
WHERE EXISTS (SELECT 1 FROM deliveries AS e
              WHERE e.cell = %(cell)s AND hashtextextended(e.lane, 0) = hashtextextended(given.lane, 0) AND e.lane = given.lane AND e.id < given.id AND e.state IN ('due', 'held') AND e.retrying)

-- name: lost_firings
SELECT id, may_have_arrived, request FROM deliveries
WHERE cell = %(cell)s AND alert = %(alert)s AND state IN ('dead', 'discarded') AND phase IN ('firing', 'escalation')
  AND target = ANY (%(targets)s::text[])
ORDER BY id

-- name: told_firings
SELECT request FROM deliveries
WHERE cell = %(cell)s AND alert = %(alert)s AND state = 'delivered' AND phase IN ('firing', 'escalation') AND action <> 'log'
  AND target = ANY (%(targets)s::text[])

-- name: unfinished_siblings
-- One decision's deliveries are written together, so another action of the same firing lies close by, counted within the cell.
SELECT request FROM deliveries
WHERE cell + 0 = %(cell)s
  AND id >= coalesce((SELECT id FROM deliveries WHERE cell + 0 = %(cell)s AND id < %(first)s ORDER BY id DESC OFFSET %(apart)s LIMIT 1), 0)
  AND id <= coalesce((SELECT id FROM deliveries WHERE cell + 0 = %(cell)s AND id > %(last)s ORDER BY id OFFSET %(apart)s LIMIT 1), 9223372036854775807)
  AND alert = %(alert)s AND target = ANY (%(targets)s::text[]) AND phase IN ('firing', 'escalation') AND state IN ('due', 'held')

-- name: delivered
-- One statement for all. Those that were tried before come back with what is kept of their attempts: see `write_tries`.
WITH good AS (
    UPDATE deliveries AS d SET state = 'delivered', attempts = d.attempts + 1, due_at = given.at, last_error = given.said,
                               tries = CASE WHEN d.attempts = 0 THEN given.attempt ELSE d.tries END
    FROM unnest(%(id)s::bigint[], %(at)s::bigint[], %(said)s::text[], %(attempt)s::text[]) AS given (id, at, said, attempt)
    WHERE d.cell + 0 = %(cell)s AND d.id = given.id AND d.state = 'due'
    RETURNING d.id, d.attempts, d.tries)
SELECT count(*), json_agg(json_build_array(id, tries)) FILTER (WHERE attempts > 1) FROM good

-- name: write_tries
UPDATE deliveries AS d SET tries = given.tries FROM unnest(%(id)s::bigint[], %(tries)s::text[]) AS given (id, tries)
WHERE d.cell + 0 = %(cell)s AND d.id = given.id

-- name: standings
-- `request` only of what may have a life of its own in it.
SELECT id, state, attempts, due_at, coalesce(renewed_at, decided_at), may_have_arrived, last_error, alert, phase, target,
       CASE WHEN strpos(request, '"expires_ms"') > 0 THEN request END, attempts_before, tries
FROM deliveries WHERE cell + 0 = %(cell)s AND id = ANY (%(ids)s::bigint[])

-- name: write_standings
-- `renewed_at` null: as it was.
UPDATE deliveries AS d SET state = given.state, retrying = true, attempts = given.attempts, due_at = given.due_at,
    renewed_at = coalesce(given.renewed_at, d.renewed_at), attempts_before = given.attempts_before,
    may_have_arrived = given.may_have_arrived, last_error = given.last_error, tries = given.tries
FROM unnest(%(id)s::bigint[], %(state)s::text[], %(attempts)s::bigint[], %(due_at)s::bigint[], %(renewed_at)s::bigint[],
            %(attempts_before)s::bigint[], %(may_have_arrived)s::boolean[], %(last_error)s::text[], %(tries)s::text[])
     AS given (id, state, attempts, due_at, renewed_at, attempts_before, may_have_arrived, last_error, tries)
WHERE d.cell + 0 = %(cell)s AND d.id = given.id

-- name: bury
UPDATE deliveries SET state = 'dead', retrying = true, attempts = attempts + 1, due_at = %(at)s, last_error = %(error)s
WHERE cell + 0 = %(cell)s AND id = %(id)s AND state = 'due'

-- name: recovering
-- Of these alerts, those that have an unfinished recovery.
SELECT DISTINCT alert FROM deliveries
WHERE cell = %(cell)s AND alert = ANY (%(alerts)s::text[]) AND phase = 'recovery' AND state IN ('due', 'held')

-- name: unfinished_recoveries
-- Those of the target; of a target without a path, as an older version wrote it, also those of its paths.
SELECT id, request, target FROM deliveries
WHERE cell = %(cell)s AND alert = %(alert)s AND phase = 'recovery' AND state IN ('due', 'held')
  AND (target = %(target)s OR starts_with(target, %(target)s || '/'))

-- name: end_recoveries
UPDATE deliveries SET state = %(state)s, due_at = %(at)s, last_error = %(error)s
WHERE cell + 0 = %(cell)s AND id = ANY (%(ids)s::bigint[]) AND state IN ('due', 'held')

-- name: held_of_rule
SELECT id FROM deliveries
WHERE cell = %(cell)s AND state IN ('due', 'held') AND retrying AND state = 'held' AND rule = %(rule)s ORDER BY id LIMIT %(limit)s

-- name: purge
DELETE FROM deliveries WHERE cell + 0 = %(cell)s AND id = ANY (ARRAY(
    SELECT id FROM deliveries WHERE cell + 0 = %(cell)s AND state NOT IN ('due', 'held') AND decided_at < %(before)s ORDER BY id LIMIT %(limit)s))

-- name: waiting
-- One row a target of fresh ones; one row a target of retries, with the first that is due and the first after now.
-- Each jumps over the rest of a target's rows in the index.
WITH RECURSIVE
    fresh (target) AS (
        (SELECT target FROM deliveries WHERE cell = %(cell)s AND state = 'due' AND NOT retrying ORDER BY target LIMIT 1)
        UNION ALL
        SELECT (SELECT d.target FROM deliveries AS d WHERE d.cell = %(cell)s AND d.state = 'due' AND NOT d.retrying
                AND d.target > fresh.target ORDER BY d.target LIMIT 1) FROM fresh WHERE fresh.target IS NOT NULL),
    again (target) AS (
        (SELECT target FROM deliveries WHERE cell = %(cell)s AND state = 'due' AND retrying ORDER BY target LIMIT 1)
        UNION ALL
        SELECT (SELECT d.target FROM deliveries AS d WHERE d.cell = %(cell)s AND d.state = 'due' AND d.retrying
                AND d.target > again.target ORDER BY d.target LIMIT 1) FROM again WHERE again.target IS NOT NULL)
(SELECT target, NULL::bigint, NULL::bigint FROM fresh WHERE target IS NOT NULL LIMIT %(most)s)
UNION ALL
(SELECT again.target,
       (SELECT d.due_at FROM deliveries AS d WHERE d.cell = %(cell)s AND d.state = 'due' AND d.retrying AND d.target = again.target
        ORDER BY d.due_at LIMIT 1),
       (SELECT d.due_at FROM deliveries AS d WHERE d.cell = %(cell)s AND d.state = 'due' AND d.retrying AND d.target = again.target
        AND d.due_at > %(now)s ORDER BY d.due_at LIMIT 1)
FROM again WHERE again.target IS NOT NULL LIMIT %(most)s)

-- name: fresh
-- In the order of ids, so an earlier fresh one of the same lane comes first; those behind a retry or a held one wait.
-- What blocks is looked up row by row (a scalar subquery is never made a join over all that blocks).
SELECT id, key, rule, lane, action, target, request, attempts - attempts_before, coalesce(renewed_at, decided_at), phase, alert
FROM deliveries AS d
WHERE cell = %(cell)s AND target = %(target)s AND state = 'due' AND NOT retrying AND id <> ALL (%(holding)s::bigint[])
  AND (SELECT e.id FROM deliveries AS e WHERE e.cell = d.cell AND hashtextextended(e.lane, 0) = hashtextextended(d.lane, 0) AND e.lane = d.lane AND e.id < d.id
       AND e.state IN ('due', 'held') AND e.retrying LIMIT 1) IS NULL
ORDER BY id LIMIT %(limit)s

-- name: retrying
SELECT id, key, rule, lane, action, target, request, attempts - attempts_before, coalesce(renewed_at, decided_at), phase, alert
FROM deliveries AS d
WHERE cell = %(cell)s AND target = %(target)s AND state = 'due' AND retrying AND due_at <= %(now)s AND id <> ALL (%(holding)s::bigint[])
  AND (SELECT e.id FROM deliveries AS e WHERE e.cell = d.cell AND hashtextextended(e.lane, 0) = hashtextextended(d.lane, 0) AND e.lane = d.lane AND e.id < d.id
       AND e.state IN ('due', 'held') AND e.retrying LIMIT 1) IS NULL
ORDER BY due_at, id LIMIT %(limit)s

-- name: get
SELECT id, key, rule, client, group_key, clients, alert, action, target, state, attempts, due_at, last_error, lane, phase,
       decided_at, request, tries, renewed_at
FROM deliveries WHERE cell + 0 = ANY (%(cells)s::int[]) AND id = %(id)s

-- name: list
-- The newest first: ids count over all cells. What is null does not filter.
SELECT id, key, rule, client, group_key, clients, alert, action, target, state, attempts, due_at, last_error, lane, phase,
       decided_at, request, tries, renewed_at
FROM deliveries WHERE cell + 0 = ANY (%(cells)s::int[]) AND id < coalesce(%(cursor)s::bigint, 9223372036854775807)
  AND (%(state)s::text IS NULL OR state = %(state)s::text) AND (%(rule)s::text IS NULL OR rule = %(rule)s::text)
  AND (%(client)s::text IS NULL OR client = %(client)s::text) AND (%(alert)s::text IS NULL OR alert = %(alert)s::text)
ORDER BY id DESC LIMIT %(limit)s

-- name: counts
-- From the partial indexes alone.
SELECT (SELECT count(*) FROM deliveries WHERE cell = ANY (%(cells)s::int[]) AND state = 'due' AND NOT retrying)
     + (SELECT count(*) FROM deliveries WHERE cell = ANY (%(cells)s::int[]) AND state = 'due' AND retrying),
       (SELECT count(*) FROM deliveries WHERE cell = ANY (%(cells)s::int[]) AND state IN ('due', 'held') AND retrying AND state = 'held')
