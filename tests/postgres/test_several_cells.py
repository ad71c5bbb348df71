"""Two cells of one database: each has its clients, and every replica runs or stands by for both."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psycopg
import pytest

from engine.core.cell_division import Division
from engine.runtime.cell_watch import unowned_cells
from engine.stores.postgres.cell_list import CellList
from engine.stores.postgres.database import Database
from engine.stores.postgres.fence import CellRow
from engine.stores.postgres.store import PostgresStore
from tests.acceptance.service import Sink, event, eventually, now_ms, offline_rule, sink, webhook
from tests.postgres.replicas import Replicas, replicas, standing

CELLS = [{"name": "eu", "groups": ["EU_*"]}, {"name": "us", "groups": ["US_*"]}]


def go_offline(made: Replicas, *names: str) -> None:
    for name in names:
        made.append(event(name, "connect", "c"), event(name, "tcpclean", "c"))


def clients_told(target: Sink) -> list[str]:
    return sorted(client for (client,) in target.told("client"))


def is_shared_out(made: Replicas) -> bool:
    """Has each cell one owner, and no replica two cells?"""
    owners = made.owners()
    return (
        sorted(owners) == ["eu", "us"] and sorted(map(len, owners.values())) == [1, 1] and owners["eu"] != owners["us"]
    )


@pytest.mark.long
def test_replicas_share_the_cells_out_and_take_over_from_one_another(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 3, cells=CELLS) as made:
        made.begin(offline_rule(target.url, recovery=False))
        eventually(lambda: is_shared_out(made))
        go_offline(made, "EU_1@@@a", "US_1@@@a")
        eventually(lambda: clients_told(target), lambda found: found == ["EU_1@@@a", "US_1@@@a"])
        ((eu,), (us,)) = (made.owners()["eu"], made.owners()["us"])
        (spare,) = {0, 1, 2} - {eu, us}
        made.made[eu].kill()
        eventually(lambda: made.owners(), lambda found: found == {"eu": [spare], "us": [us]})
        made.made[us].kill()
        eventually(lambda: made.owners(), lambda found: found == {"eu": [spare], "us": [spare]})
        go_offline(made, "EU_1@@@b", "US_1@@@b")
        everyone = ["EU_1@@@a", "EU_1@@@b", "US_1@@@a", "US_1@@@b"]
        eventually(lambda: clients_told(target), lambda found: found == everyone)
        made.made[eu].start(ready=False)  # it gets one of the two cells, and nothing is told again
        eventually(lambda: is_shared_out(made))
        go_offline(made, "EU_1@@@c", "US_1@@@c")
        eventually(lambda: clients_told(target), lambda found: found == sorted([*everyone, "EU_1@@@c", "US_1@@@c"]))
        assert len(target.arrivals) == len(target.first_seen())
        made.made[eu].command("cells", "move", "eu", f"r{spare}")
        made.made[eu].command("cells", "move", "us", f"r{spare}")
        rows = {row["cell"]: row["owner"] for row in made.made[eu].printed("cells", "list")}
        assert rows == {"eu": f"r{spare}", "us": f"r{spare}"}


@pytest.mark.long
def test_every_replica_shows_and_changes_all_cells(dsn: str, tmp_path: Path) -> None:
    everyone = {"EU_1@@@a", "US_1@@@a", "EU_2@@@b", "US_2@@@b", "EU_1@@@posted", "US_1@@@posted"}
    with sink() as target, replicas(tmp_path, dsn, 2, cells=CELLS) as made:
        rule = offline_rule(target.url, recovery=False)
        made.begin(rule)
        eventually(lambda: is_shared_out(made))
        (one, other) = made.made
        go_offline(made, "EU_1@@@a", "US_1@@@a", "EU_2@@@b", "US_2@@@b", "elsewhere@@@c")
        for name in ("EU_1@@@posted", "US_1@@@posted"):
            one.tell(event(name, "connect", "c"), event(name, "tcpclean", "c"))
        eventually(lambda: clients_told(target), lambda found: found == sorted(everyone))
        for replica in made.made:
            eventually(replica.statuses, lambda found: found == dict.fromkeys(everyone, "offline"))
            assert {row["client"] for row in replica.items("/v1/alerts")} == everyone
            assert {row["client"] for row in replica.items("/v1/deliveries")} == everyone
            for name in ("EU_1@@@a", "US_1@@@a"):
                assert len(replica.items(f"/v1/clients/{name}/timeline")) >= 2
                assert replica.get(f"/v1/clients/{name}")["status"] == "offline"
                assert replica.get(f"/v1/rules/{rule['name']}/why-not", client=name)["client"] == name
        assert "no cell has the group" in other.printed("quarantine", "list")[0]["reason"]
        # Acts: on an alert of either cell, on all clients, on one.
        for alert in one.items("/v1/alerts"):
            assert one.send("POST", f"/v1/alerts/{alert['id']}/ack", {"by": "me"}).json() == {"acknowledged": 1}
        assert one.send("POST", "/v1/alerts/none/ack", {"by": "me"}).status_code == 404
        wanted = {"match": {"device": "*"}, "for": "1h", "author": "me", "comment": "works"}
        made_silence = other.send("POST", "/v1/silences", wanted).json()
        assert made_silence["covers"] == {"clients": 6, "alerts": 6}
        assert [row["id"] for row in one.items("/v1/silences")] == [made_silence["id"]]
        go_offline(made, "EU_9@@@x", "US_9@@@x")
        suppressed = eventually(lambda: one.items("/v1/alerts", state="suppressed"), lambda found: len(found) == 2)
        assert {row["client"] for row in suppressed} == {"EU_9@@@x", "US_9@@@x"}
        assert one.send("DELETE", f"/v1/silences/{made_silence['id']}").json()["state"] == "expired"
        eventually(lambda: clients_told(target), lambda found: found == sorted(everyone | {"EU_9@@@x", "US_9@@@x"}))
        for name in ("EU_9@@@x", "US_9@@@x"):
            assert one.send("DELETE", f"/v1/clients/{name}").status_code == 200
            eventually(partial(other.send, "GET", f"/v1/clients/{name}"), lambda answer: answer.status_code == 404)
        assert one.send("POST", "/v1/quarantine/retry").json() == {"accepted": 0, "rejected": 2}
        assert len(other.printed("quarantine", "list")) == 2


@pytest.mark.long
def test_a_quarantined_event_that_is_offered_again_comes_to_its_cell(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2, cells=CELLS, events={"max_future": "1s"}) as made:
        made.begin()
        (one, _) = made.made
        eventually(lambda: sorted(made.owners()) == ["eu", "us"])
        made.append(event("US_1@@@early", "connect", "c", now_ms() + 5_000))
        eventually(lambda: one.printed("quarantine", "list"), lambda rows: len(rows) == 1)
        eventually(lambda: one.send("POST", "/v1/quarantine/retry").json(), lambda found: found["accepted"] == 1)
        for replica in made.made:
            eventually(replica.statuses, lambda found: found == {"US_1@@@early": "online"})
        assert one.printed("quarantine", "list") == []


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


def test_a_command_without_a_replica_says_what_to_do(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 1, cells=CELLS) as made:
        (one,) = made.made
        done = one.command("clients")
        assert done.returncode == 1 and "start one with `rollcall run`" in done.stderr
        assert "cluster: {cells: [eu]}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.long
def test_another_division_of_a_database_in_use_is_refused(dsn: str, tmp_path: Path) -> None:
    for place in ("before", "after"):
        (tmp_path / place).mkdir()
    with replicas(tmp_path / "before", dsn, 1) as made:
        made.start()
    with replicas(tmp_path / "after", dsn, 1, cells=CELLS) as made:
        (one,) = made.made
        for arguments in (("check",), ("run",)):
            done = one.command(*arguments)
            told = done.stdout + done.stderr
            assert (
                done.returncode == 1
                and "the database is divided into all (*), and `cells` says eu (EU_*); us (US_*)" in told
            )
            assert "Traceback" not in told


@pytest.mark.parametrize(
    "arguments", [("run",), ("silence", "add", "--everything", "--for", "1h", "--author", "A", "--comment", "c")]
)
def test_a_configuration_without_the_cells_of_the_database_makes_no_cell(
    dsn: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    database = Database(dsn=dsn)
    with CellList.open(database) as cells:
        numbers = cells.divide([Division("eu", ("EU_*",)), Division("us", ("US_*",))])
    PostgresStore.open(database, "eu").own().close()
    with replicas(tmp_path, dsn, 1) as made:
        done = made.made[0].command(*arguments)
        assert done.returncode == 1 and "the database is divided into eu (EU_*); us (US_*)" in done.stdout + done.stderr
    with CellList.open(database) as cells:
        assert {row.name for row in cells.all()} == numbers.keys()


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
