-- Named statements over users, tokens, sessions and the audit log; `-- name:` starts one.

-- name: users
SELECT name, role, password, created_at, password_at FROM users ORDER BY name

-- name: write_user
INSERT INTO users (name, role, password, created_at, password_at) VALUES (%(name)s, %(role)s, %(password)s, %(created_at)s, %(password_at)s)
ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password, password_at = excluded.password_at

-- name: remove_user
DELETE FROM users WHERE name = %(name)s

-- name: tokens
SELECT name, role, hash, created_at, expires_at, created_by FROM tokens ORDER BY name

-- name: write_token
INSERT INTO tokens (name, role, hash, created_at, expires_at, created_by)
VALUES (%(name)s, %(role)s, %(hash)s, %(created_at)s, %(expires_at)s, %(created_by)s)

-- name: remove_token
DELETE FROM tokens WHERE name = %(name)s

-- name: sessions
SELECT hash, name, kind, role, credential, address, created_at, seen_at, expires_at FROM sessions

-- name: session
SELECT hash, name, kind, role, credential, address, created_at, seen_at, expires_at FROM sessions WHERE hash = %(hash)s

-- name: write_session
INSERT INTO sessions (hash, name, kind, role, credential, address, created_at, seen_at, expires_at)
VALUES (%(hash)s, %(name)s, %(kind)s, %(role)s, %(credential)s, %(address)s, %(created_at)s, %(seen_at)s, %(expires_at)s)

-- name: trim_sessions
DELETE FROM sessions WHERE name = %(name)s AND kind = %(kind)s AND hash NOT IN (
    SELECT hash FROM sessions WHERE name = %(name)s AND kind = %(kind)s ORDER BY created_at DESC, hash LIMIT %(kept)s)

-- name: touch_session
UPDATE sessions SET seen_at = %(seen_at)s WHERE hash = %(hash)s AND seen_at < %(seen_at)s

-- name: remove_session
DELETE FROM sessions WHERE hash = %(hash)s

-- name: remove_sessions_of
DELETE FROM sessions WHERE name = %(name)s AND kind = %(kind)s

-- name: add_audit
INSERT INTO audit (at, who, kind, address, act, arguments, before, after)
VALUES (%(at)s, %(who)s, %(kind)s, %(address)s, %(act)s, %(arguments)s, %(before)s, %(after)s) RETURNING id

-- name: finish_audit
UPDATE audit SET after = %(after)s WHERE id = %(id)s

-- name: audit
SELECT id, at, who, kind, address, act, arguments, before, after FROM audit
WHERE id < %(older)s AND (%(who)s::text IS NULL OR who = %(who)s) AND (%(act)s::text IS NULL OR act = %(act)s) ORDER BY id DESC LIMIT %(limit)s

-- name: purge_sessions
DELETE FROM sessions WHERE expires_at <= %(now)s OR seen_at < %(idle)s

-- name: purge_audit
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < %(audit)s ORDER BY at LIMIT %(limit)s)
