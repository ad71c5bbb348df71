-- Named statements that look whether a database can be used; `-- name:` starts one.

-- name: database
SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'), to_regnamespace(%(schema)s) IS NOT NULL

-- name: schema
SELECT has_schema_privilege(%(schema)s, 'USAGE'), has_schema_privilege(%(schema)s, 'CREATE')

-- name: foreign_tables
SELECT count(*) FROM pg_tables WHERE schemaname = %(schema)s AND NOT pg_has_role(tableowner, 'USAGE')

-- name: has_version
SELECT to_regclass(%(schema)s || '.schema_version') IS NOT NULL

-- name: version
SELECT coalesce(max(version), 0) FROM schema_version

-- name: keeps_division
SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_schema = %(schema)s AND table_name = 'cells' AND column_name = 'groups')

-- name: are_used
SELECT EXISTS (SELECT FROM cells WHERE epoch > 0)

-- name: durability
SELECT current_setting('fsync'), current_setting('full_page_writes')

-- name: clock
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
