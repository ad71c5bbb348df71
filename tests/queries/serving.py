"""A real service that queries a stand-in of the status provider, which runs in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.service import Service, event, eventually, now_ms, service
from tests.status.standin import StandIn

ONLINE, OFFLINE = 1, 0


def status_section(folder: Path, stand_in: StandIn, **more: Any) -> dict[str, Any]:
    """`status` of a configuration: the stand-in, with its keys in files, and short confirmations."""
    keys = dict(stand_in.keys)
    for name in ("access_key", "secret"):
        (folder / name).write_text(keys.pop(name))
    found: dict[str, Any] = {"provider": "route", "access_key": {"file": "access_key"}, "secret": {"file": "secret"}}
    return found | keys | {"rate": 300, "confirm_after": "100ms"} | more


@contextmanager
def querying(folder: Path, stand_in: StandIn, status: dict[str, Any] | None = None, **config: Any) -> Iterator[Service]:
    """A service, not started, that queries the stand-in."""
    with service(folder, status=status_section(folder, stand_in, **(status or {})), **config) as made:
        yield made


def connect(running: Service, stand_in: StandIn, *names: str, truth: int = ONLINE) -> None:
    """These clients connected a while ago, longer than clocks may differ, and the broker has so many connections of each."""
    for start in range(0, len(names), 1000):
        running.tell(*(event(name, "connect", f"c-{name}", now_ms() - 10_000) for name in names[start : start + 1000]))
    stand_in.truth.update(dict.fromkeys(names, truth))


def sweep(running: Service, **body: Any) -> dict[str, Any]:
    """Begin a sweep over HTTP and wait for its end."""
    begun = running.send("POST", "/v1/reconciliations", body)
    assert begun.status_code == 202, begun.text
    return ended(running, begun.json()["id"])


def ended(running: Service, number: int) -> dict[str, Any]:
    """A sweep, once it has ended."""
    found: dict[str, Any] = eventually(
        lambda: running.get(f"/v1/reconciliations/{number}"), lambda found: found["finished_at"] is not None
    )
    return found


def tally(found: dict[str, Any]) -> dict[str, int]:
    """The counters of a sweep."""
    return {name: found[name] for name in ("asked", "agreed", "corrected", "unknown", "failed")}
