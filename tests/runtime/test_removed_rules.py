"""A rule that is gone from the files goes on for a minute, also when the service is restarted in that minute."""

from __future__ import annotations

import json
from pathlib import Path

from engine.rulefiles.loader import rule_from_definition
from engine.testing import START_MS, FakeClock, WriterBench, event

LOG = [{"log": {"message": "m"}}]
OUTAGE = rule_from_definition(
    json.dumps(
        {
            "name": "site-down",
            "trigger": "outage",
            "outage": {"by": ["group"], "at_least": 3, "percent": 50},
            "actions": LOG,
        }
    )
)
OFFLINE = rule_from_definition(json.dumps({"name": "dark", "trigger": "offline", "actions": LOG}))
MINUTE_MS = 60_000


def test_what_an_outage_of_a_removed_rule_covers_is_not_sent_at_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    clients = [f"G@@@p{number}" for number in range(3)]
    bench = WriterBench(tmp_path, OUTAGE, OFFLINE, clock=clock)
    bench.offer(*[event(client) for client in clients])
    bench.offer(*[event(client, "tcpclean", at_ms=START_MS + 1) for client in clients])
    written = bench.submit(lambda: bench.store.rules.write(OUTAGE.name, OUTAGE.definition, START_MS, None))
    clock.at_ms = START_MS + MINUTE_MS
    bench.turn(3)
    assert written.result() is None
    assert [one.rule for one in bench.offered] == ["site-down"]
    bench.close()
    bench = WriterBench(tmp_path, OFFLINE, clock=clock)
    clock.at_ms += 10_000
    bench.turn(3)
    assert not bench.offered
    assert bench.fleet.alerts.outages.watches.keys() == {"site-down"}
    bench.submit(lambda: bench.fleet.alerts.retire("site-down", clock.now_ms()))
    bench.turn(3)
    assert [one.rule for one in bench.offered] == ["dark"]  # all of them together
    bench.close()
