-- A step of an escalation tells somebody of an alert, like its firing: its recovery shares the fate of either.
DROP INDEX deliveries_told;
CREATE INDEX deliveries_told ON deliveries (alert)
WHERE state = 'delivered' AND phase IN ('firing', 'escalation') AND action <> 'log';
