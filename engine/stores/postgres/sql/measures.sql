-- What is counted once a minute: the fleet's curve, how long verdicts took, how outages go; `-- name:` starts a query.

-- name: add
INSERT INTO fleet_curve AS old (cell, grp, span, at, online, offline, unknown, on_hold, peak, flaps, transitions)
VALUES (%(cell)s, %(group)s, %(span)s, %(at)s, %(online)s, %(offline)s, %(unknown)s, %(on_hold)s, %(offline)s, %(flaps)s, %(transitions)s)
ON CONFLICT (cell, grp, span, at) DO UPDATE SET online = excluded.online, offline = excluded.offline, unknown = excluded.unknown,
on_hold = excluded.on_hold, peak = greatest(old.peak, excluded.peak), flaps = old.flaps + excluded.flaps,
transitions = old.transitions + excluded.transitions

-- name: add_latency
INSERT INTO verdict_latency AS old (cell, span, at, status, bucket, verdicts) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (cell, span, at, status, bucket) DO UPDATE SET verdicts = old.verdicts + excluded.verdicts

-- name: add_progress
INSERT INTO outage_progress (cell, alert, at, joined, back) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (cell, alert, at) DO UPDATE SET joined = excluded.joined, back = excluded.back

-- name: oldest
SELECT min(at) FROM fleet_curve WHERE cell = %s AND span = %s

-- name: newest
SELECT max(at) FROM fleet_curve WHERE cell = %s AND span = %s

-- name: fold
-- Rows of a shorter span that ended before an instant become rows of a longer one: means of the numbers, sums of what happened.
INSERT INTO fleet_curve AS old (cell, grp, span, at, online, offline, unknown, on_hold, peak, flaps, transitions)
SELECT cell, grp, %(longer)s::bigint, at / %(longer)s * %(longer)s, round(avg(online))::bigint, round(avg(offline))::bigint,
       round(avg(unknown))::bigint, round(avg(on_hold))::bigint, max(peak), sum(flaps)::bigint, sum(transitions)::bigint
FROM fleet_curve WHERE cell = %(cell)s AND span = %(span)s AND at < %(to)s GROUP BY cell, grp, at / %(longer)s * %(longer)s
ON CONFLICT (cell, grp, span, at) DO UPDATE SET peak = greatest(old.peak, excluded.peak), flaps = old.flaps + excluded.flaps,
transitions = old.transitions + excluded.transitions

-- name: folded
DELETE FROM fleet_curve WHERE cell = %(cell)s AND span = %(span)s AND at < %(to)s

-- name: fold_latency
INSERT INTO verdict_latency AS old (cell, span, at, status, bucket, verdicts)
SELECT cell, %(longer)s::bigint, at / %(longer)s * %(longer)s, status, bucket, sum(verdicts)::bigint
FROM verdict_latency WHERE cell = %(cell)s AND span = %(span)s AND at < %(to)s GROUP BY cell, at / %(longer)s * %(longer)s, status, bucket
ON CONFLICT (cell, span, at, status, bucket) DO UPDATE SET verdicts = old.verdicts + excluded.verdicts

-- name: folded_latency
DELETE FROM verdict_latency WHERE cell = %(cell)s AND span = %(span)s AND at < %(to)s

-- name: purge
DELETE FROM fleet_curve WHERE cell = %(cell)s AND (grp, span, at) IN (
    SELECT grp, span, at FROM fleet_curve WHERE cell = %(cell)s AND span = %(span)s AND at < %(before)s ORDER BY at LIMIT %(limit)s)

-- name: purge_latency
DELETE FROM verdict_latency WHERE cell = %(cell)s AND (span, at, status, bucket) IN (
    SELECT span, at, status, bucket FROM verdict_latency WHERE cell = %(cell)s AND span = %(span)s AND at < %(before)s LIMIT %(limit)s)

-- name: purge_progress
DELETE FROM outage_progress WHERE cell = %(cell)s AND (alert, at) IN (
    SELECT alert, at FROM outage_progress WHERE cell = %(cell)s AND at < %(before)s LIMIT %(limit)s)

-- name: ahead
-- The clock was put back: what was counted in a future that was none is dropped.
DELETE FROM fleet_curve WHERE cell = %(cell)s AND at > %(now)s

-- name: ahead_latency
DELETE FROM verdict_latency WHERE cell = %(cell)s AND at > %(now)s

-- name: ahead_progress
DELETE FROM outage_progress WHERE cell = %(cell)s AND at > %(now)s

-- name: curve
-- Points of a step: each is the mean of the rows in it, and the sum of what happened; of several cells all together.
SELECT began, sum(online)::bigint, sum(offline)::bigint, sum(unknown)::bigint, sum(on_hold)::bigint, sum(peak)::bigint,
       sum(flaps)::bigint, sum(transitions)::bigint
FROM (SELECT at / %(step)s * %(step)s AS began, round(sum(online * span) / sum(span)) AS online, round(sum(offline * span) / sum(span)) AS offline,
             round(sum(unknown * span) / sum(span)) AS unknown, round(sum(on_hold * span) / sum(span)) AS on_hold, max(peak) AS peak,
             sum(flaps) AS flaps, sum(transitions) AS transitions
      FROM fleet_curve WHERE cell = ANY (%(cells)s::int[]) AND grp = %(group)s AND span IN (60000, 600000, 3600000)
                         AND at >= %(from)s AND at < %(to)s
      GROUP BY cell, began) AS of_cells
GROUP BY began ORDER BY began LIMIT %(limit)s

-- name: groups
-- Of the newest minute of each cell, which the index finds at once.
SELECT DISTINCT grp FROM (SELECT cell, (SELECT max(at) FROM fleet_curve WHERE fleet_curve.cell = wanted.cell AND span = 60000) AS at
                          FROM unnest(%(cells)s::int[]) AS wanted (cell)) AS newest
JOIN fleet_curve USING (cell, at) WHERE span = 60000 AND grp <> '' ORDER BY grp

-- name: latency
SELECT at / %(step)s * %(step)s AS began, status, bucket, sum(verdicts)::bigint FROM verdict_latency
WHERE cell = ANY (%(cells)s::int[]) AND span IN (60000, 600000, 3600000) AND at >= %(from)s AND at < %(to)s
GROUP BY began, status, bucket ORDER BY began, status, bucket LIMIT %(limit)s

-- name: progress
SELECT at, joined, back FROM outage_progress WHERE cell = ANY (%(cells)s::int[]) AND alert = %(alert)s ORDER BY at LIMIT %(limit)s

-- name: outages
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts
WHERE cell = ANY (%(cells)s::int[]) AND trigger = 'outage' AND started_at < %(to)s AND (resolved_at IS NULL OR resolved_at > %(from)s)
ORDER BY started_at DESC, id DESC LIMIT %(limit)s
