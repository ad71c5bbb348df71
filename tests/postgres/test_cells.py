"""`rollcall cells`, and what replicas say of their cell: `/readyz`, the metrics, an edit of the rules while standing by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.acceptance.service import Service, event, eventually, offline_rule, service, sink
from tests.postgres.replicas import freeze, replicas, standing, thaw


def name_of(one: Service) -> str:
    return f"r{one.folder.name.removeprefix('replica-')}"


def listed(one: Service) -> dict[str, Any]:
    (row,) = one.printed("cells", "list")
    return row


def numbers(one: Service) -> dict[str, float]:
    text = requests.get(f"{one.url}/metrics", timeout=10).text
    lines = [line.split() for line in text.splitlines() if line.startswith("rollcall_cell_")]
    return {name.partition("{")[0]: float(value) for name, value in lines}


def test_an_operator_moves_a_cell_and_has_it_given_back(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 3) as made:
        made.start()
        first, others = made.owner(), [one for one in made.made if standing(one) == "standby"]
        found = eventually(lambda: listed(first), lambda row: len(row["standby"]) == 2)
        assert (found["cell"], found["owner"], found["epoch"], found["behind"]) == ("all", name_of(first), 1, [])
        assert sorted(found["standby"]) == sorted(name_of(one) for one in others)
        done = others[1].process_of("cells", "move", "all", name_of(others[1]))
        assert done.returncode == 0 and f"{name_of(others[1])} owns the cell all now (epoch 2)" in done.stdout, done
        made.wait_warm()
        assert standing(others[1]) == "owner" and standing(first) == "standby"
        done = others[0].process_of("cells", "release", "all")
        assert done.returncode == 0 and "(epoch 3)" in done.stdout, done
        assert made.owner() is not others[1]
        assert "all" in first.process_of("cells").stdout
        refused = first.process_of("cells", "move", "all", "nobody")
        assert refused.returncode == 1 and "r0" in refused.stderr


def test_without_a_shared_store_there_are_no_cells(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        done = one.process_of("cells", "list")
        assert done.returncode == 1 and "`store` is SQLite" in done.stderr


def test_each_replica_says_how_it_stands_to_the_cell(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2) as made:
        owner = made.start()
        (other,) = [one for one in made.made if one is not owner]
        made.append(*[event(f"G@@@d{number}", "connect", "c") for number in range(5)])
        assert eventually(other.statuses, lambda found: len(found) == 5)  # what the owner committed, read here
        status, text = other.readiness()
        (cell,) = json.loads(text)["cells"]
        assert status == 200 and cell["owner"] == name_of(owner) and cell["lag"] < 60
        assert numbers(owner)["rollcall_cell_owner"] == 1 and numbers(owner)["rollcall_cell_epoch"] == 1
        assert numbers(other)["rollcall_cell_owner"] == 0 and numbers(other)["rollcall_cell_epoch"] == 0
        assert numbers(owner)["rollcall_cell_fenced_commits_total"] == 0


def test_what_the_fence_stopped_is_counted_after_the_cell_is_lost(dsn: str, tmp_path: Path) -> None:
    with replicas(tmp_path, dsn, 2) as made:
        owner = made.start()
        freeze(owner)
        made.owner(but=owner)
        thaw(owner)
        eventually(lambda: standing(owner), lambda found: found == "standby")
        assert numbers(owner)["rollcall_cell_fenced_commits_total"] >= 1


def test_rules_that_were_edited_while_standing_by_are_in_force_after_the_takeover(dsn: str, tmp_path: Path) -> None:
    with sink() as target, replicas(tmp_path, dsn, 2) as made:
        owner = made.start()
        (other,) = [one for one in made.made if one is not owner]
        other.rules(offline_rule(target.url, recovery=False))
        eventually(lambda: other.log_lines("rules.loaded"))
        owner.kill()
        assert made.owner(but=owner) is other
        made.append(event("G@@@d", "connect", "c"), event("G@@@d", "tcpclean", "c"))
        assert eventually(lambda: target.told("client"), bool) == [("G@@@d",)]
