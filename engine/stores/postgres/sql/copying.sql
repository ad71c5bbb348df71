-- Named statements for copying a whole cell; `-- name:` starts one. `{table}` is a table of ours.

-- name: running
SELECT name FROM replicas WHERE cell = %s AND seen_at > clock_timestamp() - make_interval(secs => %s::float8) ORDER BY name

-- name: posted
SELECT (SELECT count(*) FROM inbox WHERE cell = %(cell)s), (SELECT count(*) FROM acts WHERE cell = %(cell)s AND done_at IS NULL)

-- name: types
SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped

-- name: patient
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0

-- name: go_on
SELECT setval(pg_get_serial_sequence('{table}', 'id'), greatest((SELECT coalesce(max(id), 1) FROM {table}), nextval(pg_get_serial_sequence('{table}', 'id'))))

-- name: kept_meta
key <> %(purged)s

-- name: kept_journal
id > (SELECT coalesce(max(value::bigint), 0) FROM meta WHERE cell = %(cell)s AND key = %(purged)s)
