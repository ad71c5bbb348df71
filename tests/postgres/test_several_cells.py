"""Two cells of one database: each has its clients, whatever source they come from and whichever replica they are posted to."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from engine.runtime.cell_watch import unowned_cells
from engine.stores.postgres.fence import CellRow
from tests.acceptance.service import event, eventually, offline_rule, sink, webhook
from tests.postgres.replicas import replicas, standing

CELLS = [{"name": "eu", "groups": ["EU_*"]}, {"name": "us", "groups": ["US_*"]}]


@pytest.mark.long
def test_each_cell_has_its_clients_and_tells_of_them_once(dsn: str, tmp_path: Path) -> None:
    names = ["EU_1@@@a", "US_1@@@a", "EU_2@@@b", "US_2@@@b"]
    posted = ["EU_1@@@posted", "US_1@@@posted"]
    with sink() as target, replicas(tmp_path, dsn, 3, cells=CELLS, own_cells=["eu", "us", "us"]) as made:
        made.begin(offline_rule(target.url, recovery=False))
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


def cell_rule(url: str) -> dict[str, object]:
    """Tells the sink of cells without an owner, and of their next one."""
    return {
        "name": "unowned",
        "trigger": "cell",
        "actions": [webhook(url, "firing", "feed")],
        "on_recovery": [webhook(url, "recovery", "feed")],
    }


@pytest.mark.long
def test_a_cell_without_an_owner_is_told_of_by_the_owner_of_another_one(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 2, cells=CELLS, own_cells=["eu", "us"]) as made:
        (eu, us) = made.made
        made.begin(cell_rule(target.url))
        eventually(made.standings, lambda found: found == ["owner", "owner"])
        eu.kill()
        told = eventually(lambda: target.told("phase", "source", "detail"), bool)
        assert told[0][:2] == ("firing", "cell eu") and told[0][2].startswith("no replica has owned it for ")
        eu.start(ready=False)
        eventually(lambda: target.told("phase", "source"), lambda found: ("recovery", "cell eu") in found)
        eventually(lambda: [row["state"] for row in us.items("/v1/alerts")], lambda states: states == ["resolved"])


@pytest.mark.long
def test_a_cell_is_told_of_by_its_next_owner(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 1) as made:
        (one,) = made.made
        one.rules(cell_rule(target.url))
        one.start(ready=False)
        made.wait_warm()
        one.kill()
        with psycopg.connect(dsn, autocommit=True) as connection:  # as if it had been gone for a minute
            connection.execute("UPDATE rollcall.cells SET until = clock_timestamp() - interval '1 minute'")
        one.start(ready=False)
        found = eventually(lambda: target.told("phase", "source", "detail"), lambda all_: len(all_) == 2)
        assert [told[:2] for told in found] == [("firing", "cell all"), ("recovery", "cell all")]
        assert found[0][2].startswith("no replica has owned it for 1m")


def row(number: int, name: str, left_s: float, epoch: int = 1) -> CellRow:
    return CellRow(cell=number, name=name, epoch=epoch, token=None, owner=None, head=0, left_s=left_s)


@pytest.mark.parametrize(
    ("own", "rows", "found"),
    [
        ("a", [row(1, "a", 3), row(2, "b", -6)], {"b": 6}),
        ("a", [row(1, "a", 3), row(2, "b", -5)], {}),  # not for longer than the lease
        ("a", [row(1, "a", 3), row(2, "b", -6, epoch=0)], {}),  # never owned
        ("b", [row(1, "a", 3), row(2, "b", 3), row(3, "c", -6)], {}),  # the owner of the first cell says it
        ("b", [row(1, "a", -6), row(2, "b", 3), row(3, "c", -7)], {"a": 6, "c": 7}),
        ("a", [], {}),
    ],
)
def test_only_the_owner_of_the_first_cell_that_has_one_speaks(
    own: str, rows: list[CellRow], found: dict[str, float]
) -> None:
    assert unowned_cells(rows, own, 5) == found
