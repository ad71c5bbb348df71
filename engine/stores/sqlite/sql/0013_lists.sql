-- Alerts as they are listed: the newest first. Without it a page of a hundred is found by sorting all of them.
CREATE INDEX alerts_started ON alerts (started_at, id);
