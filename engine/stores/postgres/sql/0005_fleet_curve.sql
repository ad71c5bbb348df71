-- The fleet's curve: how many clients had which status, counted once a minute; of the whole cell ('') and of its largest MQTT groups.
-- `span` is how many milliseconds a row stands for: minutes are folded into ten minutes and these into hours as they grow old.
CREATE TABLE fleet_curve (
    cell integer NOT NULL,
    grp text COLLATE "C" NOT NULL,
    span bigint NOT NULL,
    at bigint NOT NULL,
    online bigint NOT NULL,
    offline bigint NOT NULL,
    unknown bigint NOT NULL,
    on_hold bigint NOT NULL,
    peak bigint NOT NULL,
    flaps bigint NOT NULL,
    transitions bigint NOT NULL,
    PRIMARY KEY (cell, grp, span, at)
);
CREATE INDEX fleet_curve_at ON fleet_curve (cell, span, at);

-- How long verdicts took, from the broker's time of the event to the settled status: how many in each bucket of `core.fleet_count`.
CREATE TABLE verdict_latency (
    cell integer NOT NULL,
    span bigint NOT NULL,
    at bigint NOT NULL,
    status bigint NOT NULL,
    bucket bigint NOT NULL,
    verdicts bigint NOT NULL,
    PRIMARY KEY (cell, span, at, status, bucket)
);

-- How an outage went: how many clients ever joined and how many are back, whenever that has changed.
CREATE TABLE outage_progress (
    cell integer NOT NULL,
    alert text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    joined bigint NOT NULL,
    back bigint NOT NULL,
    PRIMARY KEY (cell, alert, at)
);
CREATE INDEX outage_progress_at ON outage_progress (cell, at);

CREATE INDEX alerts_outages ON alerts (cell, started_at) WHERE trigger = 'outage';
