"""Two cells of one database: each has its clients, whatever source they come from and whichever replica they are posted to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.service import event, eventually, offline_rule, sink
from tests.postgres.replicas import replicas, standing
from tests.postgres.server import fresh_database

CELLS = [{"name": "eu", "groups": ["EU_*"]}, {"name": "us", "groups": ["US_*"]}]


@pytest.fixture
def dsn() -> Iterator[str]:
    with fresh_database() as found:
        yield found


def test_each_cell_has_its_clients_and_tells_of_them_once(dsn: str, tmp_path: Path) -> None:
    names = ["EU_1@@@a", "US_1@@@a", "EU_2@@@b", "US_2@@@b"]
    posted = ["EU_1@@@posted", "US_1@@@posted"]
    with sink() as target, replicas(tmp_path, dsn, 3, cells=CELLS, own_cells=["eu", "us", "us"]) as made:
        for one in made.made:
            one.rules(offline_rule(target.url, recovery=False))
            one.start(ready=False)
        eventually(made.standings, lambda found: found[0] == "owner" and sorted(found[1:]) == ["owner", "standby"])
        (eu, first, second) = made.made
        for name in [*names, "elsewhere@@@c"]:
            made.append(event(name, "connect", "c"), event(name, "tcpclean", "c"))
        for name in posted:
            eu.tell(event(name, "connect", "c"), event(name, "tcpclean", "c"))  # also those of the other cell
        eventually(
            lambda: sorted(client for (client,) in target.told("client")), lambda found: found == sorted(names + posted)
        )
        assert set(eu.statuses()) == {"EU_1@@@a", "EU_2@@@b", "EU_1@@@posted"}
        american = {"US_1@@@a", "US_2@@@b", "US_1@@@posted"}
        assert eventually(lambda: set(first.statuses()), lambda found: found == american)
        assert eventually(lambda: set(second.statuses()), lambda found: found == american)
        quarantined = eu.printed("quarantine", "list")
        assert len(quarantined) == 2 and all("no cell has the group" in row["reason"] for row in quarantined)
        assert first.printed("quarantine", "list") == []
        owner = first if standing(first) == "owner" else second
        owner.kill()
        eventually(lambda: standing(second if owner is first else first) == "owner")
        made.append(event("US_3@@@d", "connect", "c"), event("US_3@@@d", "tcpclean", "c"))
        eventually(lambda: target.told("client"), lambda found: ("US_3@@@d",) in found)
        assert standing(eu) == "owner" and len(target.arrivals) == len(target.first_seen())
