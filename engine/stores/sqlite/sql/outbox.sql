-- The outbox: every delivery that was decided, and the named queries over it; `-- name:` starts one.

-- name: create
-- A delivery is written in the transaction of its decision; its key makes it the same delivery whenever it is decided
-- again. `retrying`: was attempted, held or released before, so it may lie before fresh ones of its lane. The hot path
-- touches two indexes, the key's and `fresh`; the others hold only rows that something went wrong with.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    client TEXT,
    group_key TEXT,
    clients TEXT,
    alert TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    lane TEXT NOT NULL,
    phase TEXT NOT NULL,
    state TEXT NOT NULL,
    retrying INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    may_have_arrived INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    last_error TEXT,
    request TEXT NOT NULL
);
CREATE INDEX deliveries_fresh ON deliveries (target, id) WHERE state = 'due' AND retrying = 0;
CREATE INDEX deliveries_retrying ON deliveries (target, due_at) WHERE state = 'due' AND retrying = 1;
CREATE INDEX deliveries_blocking ON deliveries (lane, id) WHERE state IN ('due', 'held') AND retrying = 1;
CREATE INDEX deliveries_lost ON deliveries (alert) WHERE state IN ('dead', 'discarded');
CREATE INDEX deliveries_told ON deliveries (alert) WHERE state = 'delivered' AND phase = 'firing' AND action <> 'log';
CREATE INDEX deliveries_recoveries ON deliveries (alert) WHERE phase = 'recovery' AND state IN ('due', 'held');

-- name: insert
INSERT INTO deliveries (key, rule, client, group_key, clients, alert, action, target, lane, phase, state, retrying,
                        attempts, may_have_arrived, decided_at, due_at, last_error, request)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING

-- name: last_id
SELECT coalesce(max(id), 0) FROM deliveries

-- name: by_key
SELECT id FROM deliveries WHERE key = ?

-- name: any_lost
SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_lost WHERE state IN ('dead', 'discarded'))

-- name: any_blocking
SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_blocking WHERE state IN ('due', 'held') AND retrying = 1)

-- name: lane_blocked
SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_blocking
               WHERE lane = ? AND id < ? AND state IN ('due', 'held') AND retrying = 1)

-- name: lost_firings
-- Of each: whom it was for, as [to, cc].
SELECT id, may_have_arrived, CASE WHEN json_valid(request) THEN json_array(json_extract(request, '$.to'), json_extract(request, '$.cc')) ELSE '[null, null]' END
FROM deliveries INDEXED BY deliveries_lost
WHERE alert = ?1 AND state IN ('dead', 'discarded') AND phase IN ('firing', 'escalation') AND target IN (?2, ?3)

-- name: told_firings
SELECT CASE WHEN json_valid(request) THEN json_array(json_extract(request, '$.to'), json_extract(request, '$.cc')) ELSE '[null, null]' END FROM deliveries INDEXED BY deliveries_told
WHERE alert = ?1 AND state = 'delivered' AND phase IN ('firing', 'escalation') AND action <> 'log' AND target IN (?2, ?3)

-- name: unfinished_siblings
-- One decision's deliveries are written together, so another action of the same firing lies close by.
SELECT CASE WHEN json_valid(request) THEN json_array(json_extract(request, '$.to'), json_extract(request, '$.cc')) ELSE '[null, null]' END FROM deliveries
WHERE id BETWEEN ?1 AND ?2 AND alert = ?3 AND target IN (?4, ?5) AND phase IN ('firing', 'escalation') AND state IN ('due', 'held')

-- name: next_fresh_target
SELECT target FROM deliveries INDEXED BY deliveries_fresh
WHERE target > ? AND state = 'due' AND retrying = 0 ORDER BY target LIMIT 1

-- name: next_retrying_target
SELECT target, due_at FROM deliveries INDEXED BY deliveries_retrying
WHERE target > ? AND state = 'due' AND retrying = 1 ORDER BY target, due_at LIMIT 1

-- name: next_retry_of_target
SELECT min(due_at) FROM deliveries INDEXED BY deliveries_retrying
WHERE target = ? AND state = 'due' AND retrying = 1 AND due_at > ?

-- name: fresh
-- In the order of ids, so an earlier fresh one of the same lane comes first; those behind a retry or a held one wait.
-- One row that holds them all: each row that is stepped to costs a turn at the interpreter's lock.
SELECT json_group_array(json_array(id, key, rule, lane, action, target, request, attempts, decided_at, phase, alert)) FROM (
    SELECT id, key, rule, lane, action, target, request, attempts - attempts_before AS attempts,
           coalesce(renewed_at, decided_at) AS decided_at, phase, alert
    FROM deliveries AS d INDEXED BY deliveries_fresh
    WHERE target = ? AND state = 'due' AND retrying = 0
      AND id NOT IN (SELECT value FROM json_each(?))
      AND NOT EXISTS (SELECT 1 FROM deliveries AS e INDEXED BY deliveries_blocking
                      WHERE e.lane = d.lane AND e.id < d.id AND e.state IN ('due', 'held') AND e.retrying = 1)
    ORDER BY id LIMIT ?)

-- name: fresh_ids
SELECT id FROM deliveries AS d INDEXED BY deliveries_fresh
WHERE target = ? AND state = 'due' AND retrying = 0
  AND id NOT IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM deliveries AS e INDEXED BY deliveries_blocking
                  WHERE e.lane = d.lane AND e.id < d.id AND e.state IN ('due', 'held') AND e.retrying = 1)
ORDER BY id LIMIT ?

-- name: retrying
SELECT json_group_array(json_array(id, key, rule, lane, action, target, request, attempts, decided_at, phase, alert)) FROM (
    SELECT id, key, rule, lane, action, target, request, attempts - attempts_before AS attempts,
           coalesce(renewed_at, decided_at) AS decided_at, phase, alert
    FROM deliveries AS d INDEXED BY deliveries_retrying
    WHERE target = ? AND state = 'due' AND retrying = 1 AND due_at <= ?
      AND id NOT IN (SELECT value FROM json_each(?))
      AND NOT EXISTS (SELECT 1 FROM deliveries AS e INDEXED BY deliveries_blocking
                      WHERE e.lane = d.lane AND e.id < d.id AND e.state IN ('due', 'held') AND e.retrying = 1)
    ORDER BY due_at, id LIMIT ?)

-- name: retrying_ids
SELECT id FROM deliveries AS d INDEXED BY deliveries_retrying
WHERE target = ? AND state = 'due' AND retrying = 1 AND due_at <= ?
  AND id NOT IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM deliveries AS e INDEXED BY deliveries_blocking
                  WHERE e.lane = d.lane AND e.id < d.id AND e.state IN ('due', 'held') AND e.retrying = 1)
ORDER BY due_at, id LIMIT ?

-- name: item
-- One of them by itself, when not all could be read together.
SELECT id, key, rule, lane, action, target, request, attempts - attempts_before, coalesce(renewed_at, decided_at), phase, alert
FROM deliveries WHERE id = ?

-- name: delivered
-- One statement for all, given as [[id, instant, what to say or null, the attempt as JSON], ...], for the same reason.
UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, due_at = json_extract(good.value, '$[1]'),
                      last_error = json_extract(good.value, '$[2]'),
                      tries = CASE WHEN tries IS NULL THEN '[' || json_extract(good.value, '$[3]') || ']'
                                   ELSE json_insert(CASE WHEN json_array_length(tries) >= :kept THEN json_remove(tries, '$[0]') ELSE tries END,
                                                    '$[#]', json(json_extract(good.value, '$[3]'))) END
FROM json_each(:good) AS good WHERE deliveries.id = json_extract(good.value, '$[0]') AND state = 'due'

-- name: standing
SELECT state, attempts, due_at, coalesce(renewed_at, decided_at), may_have_arrived, last_error, alert, phase, target,
       CASE WHEN json_valid(request) THEN json_extract(request, '$.expires_ms') END, attempts_before, tries
FROM deliveries WHERE id = ?

-- name: write_standing
-- `renewed_at` null: as it was.
UPDATE deliveries SET state = ?, retrying = ?, attempts = ?, due_at = ?, renewed_at = coalesce(?, renewed_at), attempts_before = ?,
                      may_have_arrived = ?, last_error = ?, tries = ?
WHERE id = ? AND state = ?

-- name: bury
UPDATE deliveries SET state = 'dead', retrying = 1, attempts = attempts + 1, due_at = ?, last_error = ?
WHERE id = ? AND state = 'due'

-- name: unfinished_recoveries
-- Those of the target; of a target without a path, as an older version wrote it, also those of its paths.
SELECT id, CASE WHEN json_valid(request) THEN json_array(json_extract(request, '$.to'), json_extract(request, '$.cc')) ELSE '[null, null]' END, target
FROM deliveries INDEXED BY deliveries_recoveries
WHERE alert = ?1 AND phase = 'recovery' AND state IN ('due', 'held')
  AND (target = ?2 OR substr(target, 1, length(?2) + 1) = ?2 || '/')

-- name: end_recovery
UPDATE deliveries SET state = ?, due_at = ?, last_error = ? WHERE id = ? AND state IN ('due', 'held')

-- name: held_of_rule
SELECT id FROM deliveries INDEXED BY deliveries_blocking
WHERE state IN ('due', 'held') AND retrying = 1 AND state = 'held' AND rule = ? ORDER BY id LIMIT ?

-- name: get
SELECT id, key, rule, client, group_key, clients, alert, action, target, state, attempts, due_at, last_error, lane, phase,
       decided_at, request, tries, renewed_at FROM deliveries WHERE id = ?

-- name: purge
DELETE FROM deliveries WHERE id IN (
    SELECT id FROM deliveries WHERE state NOT IN ('due', 'held') AND decided_at < ? ORDER BY id LIMIT ?)

-- name: counts
SELECT 'due', (SELECT count(*) FROM deliveries INDEXED BY deliveries_fresh WHERE state = 'due' AND retrying = 0)
            + (SELECT count(*) FROM deliveries INDEXED BY deliveries_retrying WHERE state = 'due' AND retrying = 1)
UNION ALL
SELECT 'held', count(*) FROM deliveries INDEXED BY deliveries_blocking WHERE state IN ('due', 'held') AND retrying = 1 AND state = 'held'
