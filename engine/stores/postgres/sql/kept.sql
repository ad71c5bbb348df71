-- Named statements over silences, what goes on for many alerts, and rules; `-- name:` starts one.

-- name: write_silence
INSERT INTO silences (cell, id, match, from_at, until_at, author, comment, rules, planned) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (cell, id) DO UPDATE SET match = excluded.match, from_at = excluded.from_at, until_at = excluded.until_at,
author = excluded.author, comment = excluded.comment, rules = excluded.rules, planned = excluded.planned

-- name: all_silences
SELECT id, match, from_at, until_at, author, comment, rules, planned FROM silences WHERE cell = %s ORDER BY from_at, id

-- name: purge_silences
DELETE FROM silences WHERE cell = %(cell)s AND id IN (SELECT id FROM silences WHERE cell = %(cell)s AND until_at < %(before)s LIMIT %(limit)s)

-- name: write_kept
INSERT INTO kept (cell, kind, id, value)
SELECT %s, given.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS given
ON CONFLICT (cell, kind, md5(id)) DO UPDATE SET value = excluded.value

-- name: delete_kept
DELETE FROM kept AS old USING unnest(%s::text[], %s::text[]) AS over (kind, id)
WHERE old.cell = %s AND old.kind = over.kind AND md5(old.id) = md5(over.id)

-- name: all_kept
-- By bytes, as every store sorts them.
SELECT kind, value FROM kept WHERE cell = %s ORDER BY kind COLLATE "C", id COLLATE "C"

-- name: write_members
INSERT INTO outage_members (cell, outage, client, down)
SELECT %s, given.* FROM unnest(%s::text[], %s::text[], %s::smallint[]) AS given
ON CONFLICT (cell, md5(outage), client) DO UPDATE SET down = excluded.down

-- name: delete_members
DELETE FROM outage_members WHERE cell = %s AND md5(outage) IN (SELECT md5(name) FROM unnest(%s::text[]) AS name)

-- name: all_members
SELECT outage, client, down FROM outage_members WHERE cell = %s

-- name: write_rule
INSERT INTO rules (cell, name, definition, loaded_at, missing_since) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (cell, name) DO UPDATE SET definition = excluded.definition, missing_since = excluded.missing_since

-- name: delete_rule
DELETE FROM rules WHERE cell = %s AND name = %s

-- name: all_rules
SELECT name, definition, missing_since FROM rules WHERE cell = %s

-- name: write_version
-- Only when it differs from the newest one.
INSERT INTO rule_versions (cell, name, from_at, definition)
SELECT %(cell)s, %(name)s, %(at)s, %(definition)s WHERE %(definition)s IS DISTINCT FROM (
    SELECT definition FROM rule_versions WHERE cell = %(cell)s AND name = %(name)s ORDER BY from_at DESC LIMIT 1)
ON CONFLICT (cell, name, from_at) DO UPDATE SET definition = excluded.definition

-- name: purge_versions
-- A version goes when the next one was in force already at that instant.
DELETE FROM rule_versions AS old WHERE old.cell = %(cell)s AND EXISTS (
    SELECT 1 FROM rule_versions AS new
    WHERE new.cell = old.cell AND new.name = old.name AND new.from_at > old.from_at AND new.from_at < %(before)s)
