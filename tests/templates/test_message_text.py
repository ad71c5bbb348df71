"""The list in a default text: since when each client has its status, by the same clock as the sentence above it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from engine.templates.message_text import default_message

MEMBER = {
    "id": "G@@@p",
    "status": "offline",
    "since": "2026-01-01T00:00:09.000Z",
    "occurred_at": "2026-01-01T00:00:05.000Z",
}


def text_of(phase: str, trigger: str, **more: Any) -> list[str]:
    alert: dict[str, Any] = {
        "trigger": trigger,
        "phase": phase,
        "state": "resolved" if phase == "recovery" else "firing",
        "count": 1,
    }
    alert |= {"members": [MEMBER], "total": 4, "back": 3, "key": {"site": "n"}, "duration": 61.5, **more}
    return default_message(
        phase, {"rule": {"name": "r"}, "alert": alert, "occurred_at": MEMBER["occurred_at"]}, UTC
    ).split("\n")


def test_each_client_went_when_the_broker_says_so() -> None:
    assert text_of("firing", "outage", back=0) == [
        "outage of site n: 1 client offline since 2026-01-01 00:00:05 UTC.",
        "- G@@@p offline since 2026-01-01 00:00:05 UTC",
    ]


def test_who_is_listed_when_a_quorum_or_an_outage_is_over_is_said_to_be_offline_still() -> None:
    for trigger in ("quorum", "outage"):
        assert text_of("recovery", trigger)[1:] == ["- G@@@p still offline since 2026-01-01 00:00:05 UTC"]
    assert text_of("recovery", "offline")[1:] == ["- G@@@p"]
