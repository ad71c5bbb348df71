-- What is moved in a cell when the wall clock was set; `-- name:` starts a query. `step` and `now` are milliseconds, `now` after the step.

-- name: waiting
UPDATE deliveries SET due_at = due_at + %(step)s, decided_at = decided_at + %(step)s WHERE cell = %(cell)s AND state = 'due' AND NOT retrying

-- name: retrying
-- Those that are due again, and those that are held.
UPDATE deliveries SET due_at = due_at + %(step)s, decided_at = decided_at + %(step)s
WHERE cell = %(cell)s AND state IN ('due', 'held') AND retrying

-- name: rules
UPDATE rules SET missing_since = missing_since + %(step)s WHERE cell = %(cell)s AND missing_since IS NOT NULL

-- name: gaps
UPDATE gaps SET noted_at = noted_at + %(step)s WHERE cell = %(cell)s AND noted_at > %(now)s

-- name: sources
UPDATE sources SET caught_up_to = CASE WHEN caught_up_to > %(now)s THEN %(now)s ELSE caught_up_to END,
    last_event_at = CASE WHEN last_event_at > %(now)s THEN %(now)s ELSE last_event_at END
WHERE cell = %(cell)s AND (caught_up_to > %(now)s OR last_event_at > %(now)s)

-- name: meta
UPDATE meta SET value = %(now)s::bigint::text
WHERE cell = %(cell)s AND key IN ('alive_at', 'reconcile_planned', 'gaps_swept') AND value ~ '^[0-9]{1,18}$' AND value::bigint > %(now)s

-- name: ended_deliveries
UPDATE deliveries SET decided_at = decided_at + %(step)s, due_at = due_at + %(step)s
WHERE cell = %(cell)s AND state NOT IN ('due', 'held') AND decided_at > %(now)s

-- name: ended_alerts
UPDATE alerts SET resolved_at = resolved_at + %(step)s WHERE cell = %(cell)s AND resolved_at > %(now)s

-- name: quarantine
UPDATE quarantine SET received_at = received_at + %(step)s WHERE cell = %(cell)s AND received_at > %(now)s

-- name: sweeps
UPDATE reconciliations SET finished_at = finished_at + %(step)s WHERE cell = %(cell)s AND finished_at > %(now)s

-- name: corrections
UPDATE corrections SET at = at + %(step)s WHERE cell = %(cell)s AND at > %(now)s
