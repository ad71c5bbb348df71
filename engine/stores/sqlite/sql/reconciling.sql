-- Named queries over sweeps and corrections; `-- name:` starts one.

-- name: begin
INSERT INTO reconciliations (why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed)
VALUES (?, ?, ?, NULL, ?, 0, 0, 0, 0, 0)

-- name: count
UPDATE reconciliations SET asked = asked + :asked, agreed = agreed + :agreed, corrected = corrected + :corrected,
    unknown = unknown + :unknown, failed = failed + :failed WHERE id = :id

-- name: write_total
UPDATE reconciliations SET total = ? WHERE id = ?

-- name: finish
UPDATE reconciliations SET finished_at = ? WHERE id = ?

-- name: open
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations INDEXED BY reconciliations_open WHERE finished_at IS NULL ORDER BY id

-- name: get
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations WHERE id = ?

-- name: list
SELECT id, why, scope, started_at, finished_at, total, asked, agreed, corrected, unknown, failed
FROM reconciliations WHERE :cursor IS NULL OR id < :cursor ORDER BY id DESC LIMIT :limit

-- name: correct
INSERT INTO corrections (reconciliation, client, at, believed, connections, said) VALUES (?, ?, ?, ?, ?, ?)

-- name: corrections
SELECT id, reconciliation, client, at, believed, connections, said FROM corrections
WHERE reconciliation = :reconciliation AND id > :cursor ORDER BY id LIMIT :limit

-- name: all_corrections
SELECT id, reconciliation, client, at, believed, connections, said FROM corrections WHERE id > :cursor ORDER BY id LIMIT :limit

-- name: purge
DELETE FROM reconciliations WHERE finished_at < ?

-- name: purge_corrections
DELETE FROM corrections WHERE id IN (SELECT id FROM corrections INDEXED BY corrections_at WHERE at < ? LIMIT ?)
