-- Named statements over the shares of calls; `-- name:` starts one.

-- name: lock
-- One exchange at a time: each is decided by what all the others have.
SELECT pg_advisory_xact_lock(hashtextextended('query_shares ' || %s, 0))

-- name: now
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- name: all
SELECT member, calls, floor, wanted, rate, until_at FROM query_shares WHERE ledger = %s

-- name: forget_predecessors
-- A replica that begins anew makes no calls of its last run: these keep no floor.
UPDATE query_shares SET floor = 0 WHERE ledger = %s AND replica = %s AND member <> %s AND floor <> 0

-- name: write
INSERT INTO query_shares (ledger, member, replica, calls, floor, wanted, rate, until_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (ledger, member) DO UPDATE SET calls = excluded.calls, floor = excluded.floor, wanted = excluded.wanted,
rate = excluded.rate, until_at = excluded.until_at

-- name: leave
UPDATE query_shares SET floor = 0, until_at = least(until_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
WHERE ledger = %s AND member = %s

-- name: delete
DELETE FROM query_shares WHERE ledger = %s AND member = ANY(%s)
