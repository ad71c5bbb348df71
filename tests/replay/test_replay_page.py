"""The page of a replay: drawings that agree with the lines, every row findable, names stay text, its size is bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.cli import replay_page
from engine.cli.replay_drawings import MAX_TIMELINES, alerts_of, curve_of, drawings_of
from engine.cli.replay_page import page
from engine.core.times import rfc3339
from engine.testing import START_MS
from engine.web.drawings.time_axis import TimeAxis

MINUTE = 60_000
HOSTILE = "G@@@</script><script>alert(1)</script>\u2028"


def at(minutes: float) -> str:
    return rfc3339(START_MS + round(minutes * MINUTE))


def transition(
    client: str, minutes: float, status: str, previous: str, held: float = 0.0, **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "transition",
        "client": client,
        "status": status,
        "previous": previous,
        "occurred_at": at(minutes - held),
    }
    found |= {"since": at(minutes - held), "settled_at": at(minutes), "graceful": False, "flaps": 0}
    return found | {"first_seen": previous == "unknown"} | more


def alert(client: str | None, minutes: float, state: str, rule: str = "dark", **more: Any) -> dict[str, Any]:
    return {"type": "alert", "rule": rule, "client": client, "state": state, "at": at(minutes)} | more


def delivery(client: str, minutes: float) -> dict[str, Any]:
    found = {
        "type": "delivery",
        "rule": "dark",
        "client": client,
        "action": "log",
        "phase": "firing",
        "at": at(minutes),
    }
    return found | {"key": "k", "request": {"message": HOSTILE}}


SUMMARY = {"type": "summary", "events": 9, "transitions": 3}
LINES = [
    transition("G@@@a", 0, "online", "unknown"),
    transition(HOSTILE, 10, "online", "unknown"),
    transition("G@@@a", 20, "offline", "online", held=1, flaps=2),
    alert("G@@@a", 20, "pending"),
    alert("G@@@a", 25, "firing"),
    delivery("G@@@a", 25),
    alert(HOSTILE, 30, "suppressed", "quiet", reason="silence"),
    transition("G@@@a", 40, "online", "offline"),
    alert("G@@@a", 40, "resolved"),
    transition(HOSTILE, 50, "offline", "online"),
    SUMMARY,
]


def rows_of(text: str) -> list[list[list[str]]]:
    """The rows of every table, as the script reads them."""
    (found,) = re.findall(r'<script type="application/json" id="rows">(.*?)</script>', text)
    rows: list[list[list[str]]] = json.loads(found)
    return rows


def test_every_row_is_in_the_page_and_nothing_of_others_leaves_its_place() -> None:
    text = page("events.jsonl", "rules", LINES)
    alerts, deliveries, transitions = rows_of(text)
    assert [row[4] for row in alerts] == ["firing", "suppressed", "resolved"], "what is pending is not listed"
    assert len(transitions) == 5 and deliveries[0][3] == "G@@@a"
    assert transitions[1][2] == HOSTILE.replace("\u2028", "\\u2028"), "text that a reader sees"
    assert text.count("<script") == 2 and "alert(1)</script>" not in text.replace("&lt;/script&gt;", "")


def test_the_only_script_that_runs_is_the_pages_own() -> None:
    text = page("events.jsonl", "rules", LINES)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not re.search(r"(src|href)=\"(?!#)", text), "nothing is loaded, and nothing leads elsewhere"


def test_alerts_are_put_together_and_one_that_never_fired_ends_with_the_next_transition() -> None:
    found = alerts_of(LINES)
    (fired,), (quiet,) = found["G@@@a"], found[HOSTILE]
    assert (fired["started_at"], fired["fired_at"], fired["resolved_at"]) == (at(20), at(25), at(40))
    assert (quiet["started_at"], quiet["fired_at"], quiet["resolved_at"], quiet["reason"]) == (
        at(30),
        None,
        at(50),
        "silence",
    )
    again = alerts_of([alert(None, 1, "firing", key={"site": "n"}), alert(None, 1, "firing", key={"site": "s"})])
    assert [one["key"] for one in again[None]] == [{"site": "n"}, {"site": "s"}]


def test_the_curve_counts_what_transitions_say() -> None:
    transitions = [line for line in LINES if line["type"] == "transition"]
    found = curve_of(transitions, TimeAxis(START_MS, START_MS + 50 * MINUTE), [])
    counts = {item["at"]: (item["online"], item["offline"]) for item in found["items"]}
    assert found["step"] == 8 and counts[at(0)] == (1, 0)
    assert [counts[rfc3339(START_MS + 8_000 * n)] for n in (74, 75, 149, 150, 299, 300, 374, 375)] == [
        (1, 0), (2, 0), (2, 0), (1, 1), (1, 1), (2, 0), (2, 0), (1, 1),
    ]  # fmt: skip
    assert sum(item["flaps"] for item in found["items"]) == 2


def test_clients_about_whom_most_was_sent_are_drawn_first() -> None:
    found = drawings_of(LINES)
    assert [one.client for one in found.timelines] == ["G@@@a", HOSTILE] and found.left_out == 0
    assert found.timelines[0].words == "3 transitions, 1 alert, 1 delivery"
    assert (
        found.curve is not None and "d-firing" in found.timelines[0].drawing and "d-hold" in found.timelines[0].drawing
    )
    assert drawings_of([SUMMARY]).curve is None


def test_the_page_of_a_large_replay_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_page, "MAX_ROWS", 5_000)
    many = [transition(f"G@@@{n % 500}", n / 100, ("online", "offline")[n % 2], "offline") for n in range(20_000)]
    text = page("events.jsonl", "rules", [*many, SUMMARY])
    assert len(rows_of(text)[2]) == 5_000 and "The first 5,000 are in this page" in text
    assert text.count('<details class="client"') == MAX_TIMELINES and "460 more clients have no drawing" in text
    assert text.count("<tr class") <= 3 * replay_page.SHOWN
    long = [transition("G@@@" + "x" * 3_000, 1, "online", "unknown"), SUMMARY]
    monkeypatch.setattr(replay_page, "MAX_CHARACTERS", 1_000)
    assert rows_of(page("events.jsonl", "rules", long))[2] == []


def test_rows_are_found_in_a_browser_from_a_file(tmp_path: Path) -> None:
    browsers = pytest.importorskip("playwright.sync_api")
    many = [transition(f"G@@@d{n}", n / 100, "online", "unknown") for n in range(900)]
    file = tmp_path / "replay.html"
    file.write_text(page("events.jsonl", "rules", [*LINES[:-1], *many, SUMMARY]), encoding="utf-8")
    with browsers.sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        look = browser.new_page(viewport={"width": 390, "height": 800})
        said: list[str] = []
        look.on("console", lambda message: said.append(message.text))
        look.on("pageerror", lambda error: said.append(str(error)))
        look.goto(file.as_uri())
        rows = look.locator("#section-2 tbody tr")
        assert rows.count() == replay_page.SHOWN
        assert look.evaluate("document.documentElement.scrollWidth") <= 390, "nothing scrolls sideways on a phone"
        look.locator("#section-2 .more").click()
        browsers.expect(rows).to_have_count(905)
        look.fill("#search", "D899 online")
        browsers.expect(rows).to_have_count(1)
        assert (
            "G@@@d899" in rows.first.inner_text() and "1 of 905 match" in look.locator("#section-2 .found").inner_text()
        )
        look.fill("#search", "alert(1)")
        browsers.expect(rows).to_have_count(2)
        assert look.locator("details.client:visible").count() == 1
        assert said == []
        browser.close()
