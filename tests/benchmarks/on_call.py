"""The failover once more, for an on-call team: every client drops, nearly all return, and in the end the last ones as well.

The rules have what such a team uses: an outage, parents, escalation, and receivers that keep incidents (stand-ins of PagerDuty). What stays
offline after the outage is told as bundles; children of gateways that stay offline are not told at all. The times of the failover are
divided by `failover.SPEED`; that a bundle is told again after five minutes at the earliest is not.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import failover
from tests.benchmarks.engine_process import Engine
from tests.receivers.pagerduty_stand_in import KEY, PagerDutyStandIn
from tests.receivers.stand_in import Loopback

Figures = dict[str, float]

GATEWAYS = 25
"""One in each of the first sites, and none of them comes back with the others."""

CLOSED_WITHIN_S = 420.0
"""The end of a bundle is told five minutes after its list."""


class _Pagers:
    """The team's pager and the boss's, each as PagerDuty keeps incidents."""

    def __init__(self) -> None:
        self.team, self.boss = PagerDutyStandIn(), PagerDutyStandIn()
        self.server = Loopback()
        self.server.stand_ins |= {"team": self.team, "boss": self.boss}

    def receivers(self) -> dict[str, Any]:
        """The section of the configuration; the key is in the file `key`."""
        return {
            name: {"type": "pagerduty", "url": f"{self.server.url}/{name}/v2/enqueue", "routing_key": {"file": "key"}}
            for name in self.server.stand_ins
        }

    def total(self, figure: str) -> float:
        """A counter of both together."""
        return float(sum(getattr(one, figure) for one in (self.team, self.boss)))

    def sent_twice(self) -> float:
        """Events that came to one pager more than once."""
        seen = [{json.dumps(event, sort_keys=True) for event in one.events} for one in (self.team, self.boss)]
        return float(len(self.team.events) + len(self.boss.events) - sum(map(len, seen)))


def rules() -> list[dict[str, Any]]:
    """One outage for the region; a gateway mutes its site; who is not acknowledged is escalated."""
    team, boss = [{"notify": "team"}], [{"notify": "boss"}]
    escalate = [{"after": f"{120 // failover.SPEED}s", "actions": boss, "on_recovery": boss}]
    outage = {"by": ["region"], "at_least": 20, "percent": 10, "within": f"{60 // failover.SPEED}s", "inhibit": True}
    told = {"actions": team, "on_recovery": team}
    return [
        {"name": "failover", "trigger": "outage", "outage": outage, "escalate": escalate, **told},
        {
            "name": "gateway-down",
            "trigger": "offline",
            "flapping": "fire",
            "match": {"attributes": {"kind": "gateway"}},
            **told,
        },
        {
            "name": "gone",
            "trigger": "offline",
            "flapping": "fire",
            "match": {"attributes": {"kind": "sensor"}},
            "inhibited_by": [{"rule": "gateway-down", "equal": ["group"]}],
            "escalate": escalate,
            **told,
        },
    ]


def run(clients: int, folder: Path) -> Figures:
    """From the first drop until the last incident is closed."""
    pagers = _Pagers()
    folder.mkdir(parents=True, exist_ok=True)
    gateways = [f"GID_SITE{index:02d}@@@pump-{index:07d},eu-1,gateway" for index in range(GATEWAYS)]
    (folder / "inventory.csv").write_text("\n".join(["client,region,kind", *gateways, "*,eu-1,sensor", ""]))
    (folder / "key").write_text(KEY)
    config = {
        "sources": [{"name": "push", "type": "http"}],
        "debounce": {"offline": f"{round(failover.HOLD_S * 1000)}ms", "online": "0s"},
        "inventory": "inventory.csv",
        "receivers": pagers.receivers(),
    }
    lost = range(round(clients * failover.LOST))
    try:
        with Engine.start(folder, config, rules()) as engine:
            engine.wait_for("/readyz")
            failover.connect(engine, clients)
            steps = failover.plan(clients)
            commits = failover.Commits(engine)
            behind = failover.feed(engine, steps)
            engine.wait_until(
                "the escalation of what stayed offline",
                lambda: _count(engine, "rule = 'gone' AND phase = 'escalation' AND state = 'delivered'") > 0,
                within_s=failover.WITHIN_S,
            )
            muted = engine.query(
                "SELECT count(*) FROM alerts WHERE rule = 'gone' AND state = 'suppressed' AND resolved_at IS NULL"
            )[0][0]
            now_ms = time.time_ns() // 1_000_000
            failover.post(engine, [failover.line(index, "connect", "c", now_ms) for index in lost])
            engine.wait_until(
                "the end of every incident",
                lambda: (
                    pagers.team.opened > 0
                    and not pagers.team.open
                    and not pagers.boss.open
                    and _count(engine, "state IN ('due', 'held')") == 0
                    and not engine.query("SELECT 1 FROM alerts WHERE resolved_at IS NULL LIMIT 1")
                ),
                within_s=CLOSED_WITHIN_S,
            )
            used, late = engine.usage(), commits.lateness()
            outages = engine.query("SELECT count(*) FROM alerts WHERE rule = 'failover' AND fired_at IS NOT NULL")[0][0]
            deliveries, dead = _count(engine, "1"), _count(engine, "state = 'dead'")
    finally:
        pagers.server.close()
    return {
        "events": float(len(steps)),
        "outages": float(outages),
        "incidents opened": pagers.total("opened"),
        "incidents closed": pagers.total("closed"),
        "closed, but not open": pagers.total("of_nothing"),
        "refused": float(len(pagers.team.complaints) + len(pagers.boss.complaints)),
        "deliveries": float(deliveries),
        "dead": float(dead),
        "sent twice": pagers.sent_twice(),
        "muted by gateways": float(muted),
        "verdict p50_ms": statistics.median(late),
        "verdict p99_ms": statistics.quantiles(late, n=100)[98],
        "feeder behind_s": behind,
        "peak_all_mib": used.peak_all / failover.MIB,
    }


def _count(engine: Engine, where: str) -> int:
    """Deliveries, of those that `where` names."""
    found = engine.query(f"SELECT count(*) FROM deliveries WHERE {where}")
    return int(found[0][0]) if found else 0
