-- What is counted once a minute: the fleet's curve, how long verdicts took, how outages go; `-- name:` starts a query.

-- name: add
INSERT INTO fleet_curve (grp, span, at, online, offline, unknown, on_hold, peak, flaps, transitions)
VALUES (:group, :span, :at, :online, :offline, :unknown, :on_hold, :offline, :flaps, :transitions)
ON CONFLICT (grp, span, at) DO UPDATE SET online = excluded.online, offline = excluded.offline, unknown = excluded.unknown,
on_hold = excluded.on_hold, peak = max(peak, excluded.peak), flaps = flaps + excluded.flaps, transitions = transitions + excluded.transitions

-- name: add_latency
INSERT INTO verdict_latency (span, at, status, bucket, verdicts) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (span, at, status, bucket) DO UPDATE SET verdicts = verdicts + excluded.verdicts

-- name: add_progress
INSERT INTO outage_progress (alert, at, joined, back) VALUES (?, ?, ?, ?)
ON CONFLICT (alert, at) DO UPDATE SET joined = excluded.joined, back = excluded.back

-- name: oldest
SELECT min(at) FROM fleet_curve INDEXED BY fleet_curve_at WHERE span = ?

-- name: newest
SELECT max(at) FROM fleet_curve INDEXED BY fleet_curve_at WHERE span = ?

-- name: fold
-- Rows of a shorter span that ended before an instant become rows of a longer one: means of the numbers, sums of what happened.
INSERT INTO fleet_curve (grp, span, at, online, offline, unknown, on_hold, peak, flaps, transitions)
SELECT grp, :longer, at / :longer * :longer, CAST(round(avg(online)) AS INTEGER), CAST(round(avg(offline)) AS INTEGER),
       CAST(round(avg(unknown)) AS INTEGER), CAST(round(avg(on_hold)) AS INTEGER), max(peak), sum(flaps), sum(transitions)
FROM fleet_curve WHERE span = :span AND at < :to GROUP BY grp, at / :longer
ON CONFLICT (grp, span, at) DO UPDATE SET peak = max(peak, excluded.peak), flaps = flaps + excluded.flaps,
transitions = transitions + excluded.transitions

-- name: folded
DELETE FROM fleet_curve WHERE span = :span AND at < :to

-- name: fold_latency
INSERT INTO verdict_latency (span, at, status, bucket, verdicts)
SELECT :longer, at / :longer * :longer, status, bucket, sum(verdicts)
FROM verdict_latency WHERE span = :span AND at < :to GROUP BY at / :longer, status, bucket
ON CONFLICT (span, at, status, bucket) DO UPDATE SET verdicts = verdicts + excluded.verdicts

-- name: folded_latency
DELETE FROM verdict_latency WHERE span = :span AND at < :to

-- name: purge
DELETE FROM fleet_curve WHERE (grp, span, at) IN (
    SELECT grp, span, at FROM fleet_curve INDEXED BY fleet_curve_at WHERE span = :span AND at < :before ORDER BY at LIMIT :limit)

-- name: purge_latency
DELETE FROM verdict_latency WHERE (span, at, status, bucket) IN (
    SELECT span, at, status, bucket FROM verdict_latency WHERE span = :span AND at < :before LIMIT :limit)

-- name: purge_progress
DELETE FROM outage_progress WHERE (alert, at) IN (
    SELECT alert, at FROM outage_progress INDEXED BY outage_progress_at WHERE at < :before LIMIT :limit)

-- name: ahead
-- The clock was put back: what was counted in a future that was none is dropped.
DELETE FROM fleet_curve WHERE at > :now

-- name: ahead_latency
DELETE FROM verdict_latency WHERE at > :now

-- name: ahead_progress
DELETE FROM outage_progress WHERE at > :now

-- name: curve
-- Points of a step: each is the mean of the rows in it, and the sum of what happened.
SELECT at / :step * :step AS began, round(1.0 * sum(online * span) / sum(span)), round(1.0 * sum(offline * span) / sum(span)),
       round(1.0 * sum(unknown * span) / sum(span)), round(1.0 * sum(on_hold * span) / sum(span)), max(peak), sum(flaps), sum(transitions)
FROM fleet_curve WHERE grp = :group AND span IN (60000, 600000, 3600000) AND at >= :from AND at < :to
GROUP BY began ORDER BY began LIMIT :limit

-- name: groups
SELECT grp FROM fleet_curve WHERE span = 60000 AND at = (SELECT max(at) FROM fleet_curve WHERE span = 60000) AND grp <> '' ORDER BY grp

-- name: latency
SELECT at / :step * :step AS began, status, bucket, sum(verdicts) FROM verdict_latency
WHERE span IN (60000, 600000, 3600000) AND at >= :from AND at < :to
GROUP BY began, status, bucket ORDER BY began, status, bucket LIMIT :limit

-- name: progress
SELECT at, joined, back FROM outage_progress WHERE alert = ? ORDER BY at LIMIT ?

-- name: outages
SELECT id, rule, client, source, state, reason, started_at, resolved_at, key, acknowledged_by FROM alerts INDEXED BY alerts_outages
WHERE trigger = 'outage' AND started_at < :to AND (resolved_at IS NULL OR resolved_at > :from)
ORDER BY started_at DESC, id DESC LIMIT :limit
