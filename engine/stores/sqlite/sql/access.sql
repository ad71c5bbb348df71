-- Named statements over users, tokens, sessions and the audit log; `-- name:` starts one.

-- name: users
SELECT name, role, password, created_at, password_at FROM users ORDER BY name

-- name: write_user
INSERT INTO users (name, role, password, created_at, password_at) VALUES (:name, :role, :password, :created_at, :password_at)
ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, password_at = excluded.password_at

-- name: remove_user
DELETE FROM users WHERE name = :name

-- name: tokens
SELECT name, role, hash, created_at, expires_at, created_by FROM tokens ORDER BY name

-- name: write_token
INSERT INTO tokens (name, role, hash, created_at, expires_at, created_by)
VALUES (:name, :role, :hash, :created_at, :expires_at, :created_by)

-- name: remove_token
DELETE FROM tokens WHERE name = :name

-- name: sessions
SELECT hash, name, kind, role, credential, address, created_at, seen_at, expires_at FROM sessions

-- name: session
SELECT hash, name, kind, role, credential, address, created_at, seen_at, expires_at FROM sessions WHERE hash = :hash

-- name: write_session
INSERT INTO sessions (hash, name, kind, role, credential, address, created_at, seen_at, expires_at)
VALUES (:hash, :name, :kind, :role, :credential, :address, :created_at, :seen_at, :expires_at)

-- name: trim_sessions
DELETE FROM sessions WHERE name = :name AND kind = :kind AND hash NOT IN (
    SELECT hash FROM sessions WHERE name = :name AND kind = :kind ORDER BY created_at DESC, hash LIMIT :kept)

-- name: touch_session
UPDATE sessions SET seen_at = :seen_at WHERE hash = :hash AND seen_at < :seen_at

-- name: remove_session
DELETE FROM sessions WHERE hash = :hash

-- name: remove_sessions_of
DELETE FROM sessions WHERE name = :name AND kind = :kind

-- name: add_audit
INSERT INTO audit (at, who, kind, address, act, arguments, before, after)
VALUES (:at, :who, :kind, :address, :act, :arguments, :before, :after) RETURNING id

-- name: finish_audit
UPDATE audit SET after = :after WHERE id = :id

-- name: audit
SELECT id, at, who, kind, address, act, arguments, before, after FROM audit
WHERE id < :older AND (:who IS NULL OR who = :who) AND (:act IS NULL OR act = :act) ORDER BY id DESC LIMIT :limit

-- name: purge_sessions
DELETE FROM sessions WHERE expires_at <= :now OR seen_at < :idle

-- name: purge_audit
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :audit ORDER BY at LIMIT :limit)
