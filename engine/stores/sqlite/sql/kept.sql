-- Named queries over silences and what goes on for many alerts; `-- name:` starts one.

-- name: write_silence
INSERT INTO silences (id, match, from_at, until_at, author, comment, rules, planned) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET match = excluded.match, from_at = excluded.from_at, until_at = excluded.until_at,
author = excluded.author, comment = excluded.comment, rules = excluded.rules, planned = excluded.planned

-- name: all_silences
SELECT id, match, from_at, until_at, author, comment, rules, planned FROM silences ORDER BY from_at, id

-- name: silence
SELECT id, match, from_at, until_at, author, comment, rules, planned FROM silences WHERE id = ?

-- name: silences
-- Parameters that are null do not filter. `state`: planned, active or expired.
SELECT id, match, from_at, until_at, author, comment, rules, planned FROM silences
WHERE (:state IS NULL OR :state = CASE WHEN until_at <= :now THEN 'expired' WHEN from_at > :now THEN 'planned' ELSE 'active' END) AND (:author IS NULL OR author = :author)
  AND (:at IS NULL OR from_at < :at OR (from_at = :at AND id < :id))
ORDER BY from_at DESC, id DESC LIMIT :limit

-- name: purge_silences
DELETE FROM silences WHERE id IN (SELECT id FROM silences WHERE until_at < ? LIMIT ?)

-- name: write_kept
INSERT INTO kept (kind, id, value) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value

-- name: delete_kept
DELETE FROM kept WHERE kind = ? AND id = ?

-- name: all_kept
SELECT kind, value FROM kept ORDER BY kind, id

-- name: write_version
-- Only when it differs from the newest one.
INSERT INTO rule_versions (name, from_at, definition)
SELECT :name, :at, :definition WHERE :definition IS NOT (
    SELECT definition FROM rule_versions WHERE name = :name ORDER BY from_at DESC LIMIT 1)
ON CONFLICT (name, from_at) DO UPDATE SET definition = excluded.definition

-- name: version_at
SELECT definition FROM rule_versions WHERE name = ? AND from_at <= ? ORDER BY from_at DESC LIMIT 1

-- name: purge_versions
-- A version goes when the next one was in force already at that instant.
DELETE FROM rule_versions AS old WHERE EXISTS (
    SELECT 1 FROM rule_versions AS new WHERE new.name = old.name AND new.from_at > old.from_at AND new.from_at < ?)

-- name: write_member
INSERT INTO outage_members (outage, client, down) VALUES (?, ?, ?) ON CONFLICT (outage, client) DO UPDATE SET down = excluded.down

-- name: delete_members
DELETE FROM outage_members WHERE outage = ?

-- name: all_members
SELECT outage, client, down FROM outage_members
