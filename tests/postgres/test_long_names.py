"""Names that people and devices can make as long as they like: nothing of them is too long for an index of PostgreSQL (2.7 kB)."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.service import event, eventually, sink
from tests.postgres.replicas import replicas
from tests.postgres.server import fresh_database

pytestmark = pytest.mark.long


def no_pattern(length: int) -> str:
    """Text that an index cannot make shorter, the same in each run."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


def test_a_column_of_the_inventory_may_be_long(tmp_path: Path) -> None:
    site = no_pattern(8_000)
    names = [f"G@@@{number}-{no_pattern(240)}" for number in range(4)]
    (tmp_path / "inventory.csv").write_text("client,site\n" + "".join(f"{name},{site}\n" for name in names))
    with fresh_database() as dsn, sink() as target:
        told: dict[str, Any] = {
            "webhook": {"url": f"{target.url}/{no_pattern(3_000)}", "json": {"rule": "{{ rule.name }}"}}
        }
        many: list[dict[str, Any]] = [
            {"name": "outage", "trigger": "outage", "outage": {"by": ["site"], "at_least": 2, "within": "2s", "inhibit": False}},
            {"name": "quorum", "trigger": "quorum", "quorum": {"by": ["site"], "percent": 50}},
            {"name": "grouping", "trigger": "offline", "grouping": {"by": ["site"], "wait": "1s", "interval": "5s"}},
            {"name": "throttle", "trigger": "offline", "throttle": {"max": 1, "per": "1m", "by": ["site"]}},
        ]  # fmt: skip
        with replicas(tmp_path, dsn, 2, lease_s=2.0, inventory=str(tmp_path / "inventory.csv")) as made:
            owner = made.start(*[rule | {"actions": [told]} for rule in many])
            made.append(*[event(name, "connect", "c") for name in names])
            eventually(owner.statuses, lambda found: set(found.values()) == {"online"} and len(found) == 4)
            made.append(*[event(name, "tcpclean", "c") for name in names])
            wanted = {rule["name"] for rule in many}
            eventually(lambda: {one.body["rule"] for one in target.seen()}, lambda found: found >= wanted)
            owner.kill()
            other = made.owner(but=owner)
            eventually(other.statuses, lambda found: set(found.values()) == {"offline"} and len(found) == 4)
            made.append(*[event(name, "connect", "c2") for name in names])
            eventually(other.statuses, lambda found: set(found.values()) == {"online"})
            eventually(lambda: members(dsn), lambda found: found == 0)


def members(dsn: str) -> int:
    """How many clients of outages are remembered."""
    with psycopg.connect(dsn) as connection:
        (count,) = connection.execute("SELECT count(*) FROM rollcall.outage_members").fetchone() or (0,)
    return int(count)
