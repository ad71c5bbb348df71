"""Doubtful clients and dead feeds, through the real service: clients that may be online are queried before a page; two zeros are enough."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.service import event, eventually, offline_rule, sink
from tests.queries.serving import connect, querying
from tests.status.standin import StandIn


def test_a_doubtful_client_is_queried_before_it_settles_offline(tmp_path: Path) -> None:
    with (
        StandIn() as broker,
        sink() as target,
        querying(tmp_path, broker, {"confirm_after": "20s"}, debounce={"offline": "300ms"}) as running,
    ):
        running.rules(offline_rule(target.url))
        running.start()
        broker.truth = {"G@@@alive": 1}
        # Their connects were lost: nobody knows whether the close was that of the newest connection.
        running.tell(event("G@@@alive", "tcpclean", "a"), event("G@@@dark", "tcpclean", "b"))
        assert eventually(lambda: target.told("client", "phase")) == [("G@@@dark", "firing")]
        assert set(broker.asked()) == {"G@@@alive", "G@@@dark"}
        eventually(lambda: running.statuses(), lambda found: found == {"G@@@alive": "online", "G@@@dark": "offline"})
        assert target.told("client", "phase") == [("G@@@dark", "firing")]


def test_while_a_feed_is_dead_clients_with_long_holds_are_queried_and_two_zeros_settle_them(tmp_path: Path) -> None:
    dead = {"name": "log", "type": "file", "path": "nothing-there.jsonl", "follow": True}
    with (
        StandIn() as broker,
        sink() as target,
        querying(
            tmp_path, broker, sources=[{"name": "push", "type": "http"}, dead], feed={"max_hold": "1s"},
            debounce={"offline": "200ms"},
        ) as running,
    ):  # fmt: skip
        running.rules(offline_rule(target.url))
        running.start(ready=False)
        eventually(lambda: running.readiness()[0], lambda status: status in (200, 503))
        eventually(lambda: "starting" not in running.readiness()[1])
        connect(running, broker, "G@@@dark", "G@@@alive")
        broker.truth["G@@@dark"] = 0
        running.tell(*(event(name, "tcpclean", f"c-{name}") for name in ("G@@@dark", "G@@@alive")))
        assert eventually(lambda: target.told("client", "phase")) == [("G@@@dark", "firing")]
        assert broker.asked().count("G@@@dark") >= 2
        (log,) = [one for one in running.items("/v1/sources") if one["name"] == "log"]
        assert log["caught_up_to"] is None
        eventually(lambda: running.statuses(), lambda found: found["G@@@alive"] == "online")
        assert target.told("client", "phase") == [("G@@@dark", "firing")]
