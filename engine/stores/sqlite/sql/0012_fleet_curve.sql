-- The fleet's curve: how many clients had which status, counted once a minute; of the whole fleet ('') and of the largest MQTT groups.
-- `span` is how many milliseconds a row stands for: minutes are folded into ten minutes and these into hours as they grow old.
CREATE TABLE fleet_curve (
    grp TEXT NOT NULL,
    span INTEGER NOT NULL,
    at INTEGER NOT NULL,
    online INTEGER NOT NULL,
    offline INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    on_hold INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    flaps INTEGER NOT NULL,
    transitions INTEGER NOT NULL,
    PRIMARY KEY (grp, span, at)
) WITHOUT ROWID;
CREATE INDEX fleet_curve_at ON fleet_curve (span, at);

-- How long verdicts took, from the broker's time of the event to the settled status: how many in each bucket of `core.fleet_count`.
CREATE TABLE verdict_latency (
    span INTEGER NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    verdicts INTEGER NOT NULL,
    PRIMARY KEY (span, at, status, bucket)
) WITHOUT ROWID;

-- How an outage went: how many clients ever joined and how many are back, whenever that has changed.
CREATE TABLE outage_progress (
    alert TEXT NOT NULL,
    at INTEGER NOT NULL,
    joined INTEGER NOT NULL,
    back INTEGER NOT NULL,
    PRIMARY KEY (alert, at)
) WITHOUT ROWID;
CREATE INDEX outage_progress_at ON outage_progress (at);

CREATE INDEX alerts_outages ON alerts (started_at) WHERE trigger = 'outage';
