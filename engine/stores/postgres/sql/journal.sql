-- Named statements over the journal and its parts; `-- name:` starts one. `{...}` are numbers of a cell and of a part.

-- name: newest_part
SELECT part, first_row, first_at FROM journal_parts WHERE cell = %s ORDER BY part DESC LIMIT 1

-- name: begin_part
INSERT INTO journal_parts (cell, part, first_row, first_at) VALUES (%s, %s, %s, %s)

-- name: create_part
-- Attaching keeps nobody from reading; making the table as a partition right away would.
CREATE TABLE journal_{cell}_{part} (LIKE journal_{cell} INCLUDING ALL);
ALTER TABLE journal_{cell} ATTACH PARTITION journal_{cell}_{part} FOR VALUES IN ({part})

-- name: append
INSERT INTO journal_{cell}_{part} (cell, part, id, at, source, count, events, previous, facts) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: last
SELECT id, at FROM journal WHERE cell = %(cell)s AND part = (SELECT max(part) FROM journal_parts WHERE cell = %(cell)s)
ORDER BY id DESC LIMIT 1

-- name: after
-- What was purged is not there any more, also while its part is.
SELECT id, at, events, facts FROM journal
WHERE cell = %(cell)s AND part >= (SELECT coalesce(max(part), 0) FROM journal_parts WHERE cell = %(cell)s AND first_row <= %(row)s + 1)
  AND id > greatest(%(row)s, (SELECT coalesce(max(value::bigint), 0) FROM meta WHERE cell = %(cell)s AND key = 'journal_purged_to'))
ORDER BY id LIMIT %(limit)s

-- name: row
SELECT at, source, events, previous, facts FROM journal
WHERE cell = %(cell)s AND id = %(row)s
  AND part = (SELECT max(part) FROM journal_parts WHERE cell = %(cell)s AND first_row <= %(row)s)
  AND id > (SELECT coalesce(max(value::bigint), 0) FROM meta WHERE cell = %(cell)s AND key = 'journal_purged_to')

-- name: first_kept
-- The oldest row that is young enough or not vouched for, of those that are there.
SELECT min(id) FROM (
    SELECT id FROM journal
    WHERE cell = %(cell)s AND part >= (SELECT coalesce(max(part), 0) FROM journal_parts WHERE cell = %(cell)s AND first_row <= %(floor)s + 1)
      AND id > %(floor)s AND (id > %(checkpoint)s OR (at >= %(before)s AND id > %(ahead)s))
    ORDER BY id LIMIT 1) AS kept

-- name: count
SELECT count(*) FROM journal WHERE cell = %(cell)s AND id > %(floor)s AND id <= %(to)s

-- name: whole_parts
-- Parts all of whose rows were purged, oldest first; never the newest one.
SELECT part FROM (
    SELECT part, lead(first_row) OVER (ORDER BY part) AS next_row FROM journal_parts WHERE cell = %s) AS parts
WHERE next_row <= %s + 1 ORDER BY part

-- name: drop_part
SET LOCAL lock_timeout = '100ms';
DROP TABLE IF EXISTS journal_{cell}_{part};
DELETE FROM journal_parts WHERE cell = {cell} AND part = {part}

-- name: newest
-- The newest rows until they have so many events, and no more than so many rows.
SELECT id, at, source, events FROM (
    SELECT id, at, source, events, sum(count) OVER (ORDER BY id DESC) - count AS before FROM (
        SELECT id, at, source, count, events FROM journal
        WHERE cell = %(cell)s AND part >= (SELECT coalesce(max(part), 0) - 1 FROM journal_parts WHERE cell = %(cell)s)
          AND id > (SELECT coalesce(max(value::bigint), 0) FROM meta WHERE cell = %(cell)s AND key = 'journal_purged_to')
        ORDER BY id DESC LIMIT %(limit)s) AS newest) AS counted
WHERE before < %(events)s ORDER BY id DESC
