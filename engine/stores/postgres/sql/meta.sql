-- Named statements over remembered values; `-- name:` starts one.

-- name: read
SELECT value FROM meta WHERE cell = %s AND key = %s

-- name: write
INSERT INTO meta (cell, key, value) VALUES (%s, %s, %s) ON CONFLICT (cell, key) DO UPDATE SET value = excluded.value
