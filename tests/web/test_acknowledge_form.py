"""Alerts are acknowledged from the console: by a person in a browser, and by nobody else's page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.service import Service, event, eventually, service
from tests.receivers.neighbours import NEIGHBOURS
from tests.receivers.pagerduty_stand_in import KEY, PagerDutyStandIn
from tests.receivers.stand_in import Loopback
from tests.web.browser_session import BrowserSession

PAGER = [{"notify": "pager"}]
LOG = [{"log": {"message": "x"}}]
HOSTILE = "H@@@<b>pump</b>\u202e'\""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def pager() -> Iterator[tuple[PagerDutyStandIn, str]]:
    """A stand-in of PagerDuty, and its address."""
    server = Loopback()
    made = PagerDutyStandIn()
    server.stand_ins["pagerduty"] = made
    yield made, NEIGHBOURS["pagerduty"].at(f"{server.url}/pagerduty")["url"]
    server.close()


def config(folder: Path, url: str) -> dict[str, Any]:
    (folder / "key").write_text(KEY)
    return {"receivers": {"pager": {"type": "pagerduty", "url": url, "routing_key": {"file": "key"}}}}


def rule(name: str, group: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "trigger": "offline", "match": {"group": group}, "actions": PAGER, "on_recovery": PAGER, **more}  # fmt: skip


def http_section(running: Service, **more: Any) -> None:
    """More keys of `http` in the configuration."""
    file = running.folder / "config.yaml"
    written = json.loads(file.read_text())
    written["http"] |= more
    file.write_text(json.dumps(written))


def drop(running: Service, *clients: str) -> None:
    """These come and go."""
    running.tell(*(event(client, "connect", "a") for client in clients))
    running.tell(*(event(client, "tcpclean", "a") for client in clients))


def forms(page: str) -> list[dict[str, str]]:
    """The hidden fields of every form."""
    found = re.findall(r'<form method="post" action="[./]+act/acknowledge">(.*?)</form>', page, re.DOTALL)
    return [
        {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)}
        for form in found
    ]


def send(running: Service, fields: dict[str, str], **headers: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(
        f"{running.url}/act/acknowledge", fields, headers=FORM | names, timeout=60, allow_redirects=False
    )


def said(page: requests.Response) -> str:
    """What the page says was not done, and why."""
    found = re.search(r'said bad" role="alert">(.*?)</p>', page.text)
    assert found is not None, page.text
    return unescape(found[1])


def test_a_person_with_a_telephone_stops_the_escalation(tmp_path: Path, pager: tuple[PagerDutyStandIn, str]) -> None:
    stand_in, url = pager
    boss = [{"after": "25s", "actions": [{"log": {"message": "the boss is told"}}]}]
    with (
        service(tmp_path, **config(tmp_path, url)) as running,
        BrowserSession(tmp_path, telephone=True) as browser,
    ):
        running.rules(rule("pump-dark", "H", escalate=boss), rule("other-dark", "O", escalate=boss))
        running.start()
        drop(running, HOSTILE, "O@@@control")
        eventually(lambda: len(stand_in.open), lambda count: count == 2)
        (alert,) = [one["id"] for one in running.items("/v1/alerts", rule="pump-dark")]
        browser.open(f"{running.url}/?alert={alert}")  # as the messages of earlier versions link
        browser.wait_for("Your name")
        assert browser.width() <= 390
        browser.open(running.url)
        browser.wait_for("H@@@<b>pump</b>\\u202e'\"")
        button = f"form:has(input[value='{alert}']) button"
        assert browser.width() <= 390 and browser.place(button)["right"] <= 390
        browser.touch(button)
        browser.wait_for("Your name")
        eventually(browser.focused, lambda found: found == "by")
        browser.type("Zoë <i>")
        browser.press("Enter")
        browser.wait_for("acknowledged by Zoë <i>")
        eventually(lambda: sorted(stand_in.open.values()), lambda states: states == ["acknowledged", "triggered"])
        # Both fired at one instant, so this step would have left with the other.
        eventually(lambda: phases(running, "other-dark"), lambda found: found == ["escalation", "firing"])
        assert phases(running, "pump-dark") == ["acknowledged", "firing"]
        # The other one with the keyboard: the name is known.
        browser.open(running.url)
        browser.wait_for("not acknowledged yet")
        for _ in range(40):
            browser.press("Tab")
            if browser.focused().startswith("Acknowledge other-dark"):
                break
        browser.press("Enter")
        browser.wait_for("Acknowledged: 1 alert")
        eventually(lambda: sorted(stand_in.open.values()), lambda states: states == ["acknowledged"] * 2)
        assert {one["acknowledged_by"] for one in running.items("/v1/alerts")} == {"Zoë <i>"}
        running.tell(event(HOSTILE, "connect", "b"), event("O@@@control", "connect", "b"))
        eventually(lambda: stand_in.open, lambda left: left == {})


def phases(running: Service, name: str) -> list[str]:
    """Of all deliveries of a rule, sorted."""
    return sorted(running.get(f"/v1/deliveries/{row['id']}")["phase"] for row in running.items("/v1/deliveries", rule=name))  # fmt: skip


def test_whatever_was_told_as_one_is_acknowledged_with_one_button(
    tmp_path: Path, pager: tuple[PagerDutyStandIn, str]
) -> None:
    stand_in, url = pager
    with service(tmp_path, **config(tmp_path, url)) as running:
        running.rules(
            rule("single", "S"),
            rule("grouped", "G", grouping={"by": ["group"], "wait": "1s", "interval": "1h"}),
            rule("bundled", "B"),
            rule("half", "Q", trigger="quorum", quorum={"by": ["group"], "down": 2}),
            rule("site", "O", trigger="outage", outage={"by": ["group"], "at_least": 3, "within": "1m"}),
        )
        running.start()
        silence = running.send("POST", "/v1/silences", {"rule": "bundled", "for": "1h", "author": "a", "comment": "b"})
        drop(running, "S@@@1", *(f"{group}@@@{number}" for group in "GBQO" for number in range(3)))
        eventually(
            lambda: running.items("/v1/alerts", state="suppressed", rule="bundled"), lambda found: len(found) == 3
        )
        running.send("DELETE", f"/v1/silences/{silence.json()['id']}")
        eventually(lambda: len(stand_in.open), lambda count: count == 5)

        page = requests.get(running.url, timeout=60).text
        fields = {one["alert"]: one for one in forms(page)}
        assert len(fields) == 5
        assert "and 2 more" in page
        for id_, one in fields.items():
            answer = send(running, one | {"by": "kim"})
            assert answer.status_code == 303
            shown = requests.get(f"{running.url}/act/{answer.headers['location']}", timeout=60).text
            assert "Acknowledged: " in shown
            assert "acknowledged by <bdi>kim</bdi>" in requests.get(f"{running.url}/alert/{id_}", timeout=60).text
            again = send(running, one | {"by": "lee"})
            assert again.status_code == 409 and "already been acknowledged by kim" in said(again)
        eventually(lambda: set(stand_in.open.values()), lambda states: states == {"acknowledged"})
        assert forms(requests.get(running.url, timeout=60).text) == []
        assert running.items("/v1/alerts", state="firing") and all(
            one["acknowledged_by"] == "kim" for one in running.items("/v1/alerts", state="firing")
        )
        everybody = ["S@@@1", *(f"{group}@@@{number}" for group in "GBQO" for number in range(3))]
        running.tell(*(event(client, "connect", "b") for client in everybody))
        eventually(lambda: running.items("/v1/alerts", state="firing"), lambda found: not found)
        for id_, one in fields.items():  # a page that was left open, and a link in an old message
            ended = send(running, one | {"by": "lee"})
            assert ended.status_code == 409 and re.search("ended|resolved|acknowledged", said(ended))
            assert re.search("has ended|resolved", requests.get(running.url, {"alert": id_}, timeout=60).text)


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str]]]:
    """A service behind a proxy, and one alert; the fields of its form."""
    folder = tmp_path_factory.mktemp("dark")
    with service(folder) as running:
        http_section(running, external_url="https://rollcall.example/console")
        running.rules({"name": "gone", "trigger": "offline", "actions": LOG})
        running.start()
        drop(running, HOSTILE)
        eventually(lambda: running.items("/v1/alerts", state="firing"))
        (fields,) = forms(requests.get(running.url, timeout=60).text)
        yield running, fields


def acknowledged(running: Service) -> list[str | None]:
    """By whom, of each alert."""
    return [one["acknowledged_by"] for one in running.items("/v1/alerts")]


@pytest.mark.parametrize(
    ("changed", "headers", "status", "reason"),
    [
        ({"by": "x", "token": "wrong"}, {}, 403, "Please try again"),
        ({"by": "x", "token": "é"}, {}, 403, "Please try again"),
        ({"by": "  "}, {}, 400, "your name is missing"),
        ({"by": "<b>" * 40}, {}, 400, "at most 100 characters"),
        ({"by": "two\nlines"}, {}, 400, "one line"),
        ({"by": "x", "alert": "<script>alert(1)</script>"}, {}, 404, "there is no alert"),
        ({"by": "x", "alert": ""}, {}, 400, "which alert"),
        ({"by": "x" * 300_000}, {}, 413, "larger than"),
        ({"by": "x"} | {f"f{number}": "" for number in range(50)}, {}, 400, "malformed"),
        ({"by": "x"}, {"Origin": "http://evil.example"}, 403, None),
        ({"by": "x"}, {"Origin": "null"}, 403, None),
        ({"by": "x"}, {"Origin": "https://rollcall.example.evil.example"}, 403, None),
        ({"by": "x"}, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 403, None),
        ({"by": "x"}, {"Sec_Fetch_Site": "same-site"}, 403, None),
        ({"by": "x"}, {"User_Agent": "Mozilla/5.0"}, 403, None),
        ({"by": "x"}, {"Content_Type": "text/plain"}, 415, None),
        ({"by": "x"}, {"Content_Type": "application/json"}, 415, None),
        ({"by": "x"}, {"Host": "evil.example"}, 403, None),
    ],
)  # fmt: skip
def test_what_is_not_sent_by_a_person_on_our_page_is_refused(
    dark: tuple[Service, dict[str, str]],
    changed: dict[str, str],
    headers: dict[str, str],
    status: int,
    reason: str | None,
) -> None:
    running, fields = dark
    before = acknowledged(running)
    answer = send(running, fields | changed, **headers)
    assert answer.status_code == status, answer.text
    assert reason is None or reason in said(answer)
    assert "<script>" not in answer.text and "<b>" * 5 not in answer.text
    assert "rollcall_name" not in answer.headers.get("set-cookie", "")
    assert acknowledged(running) == before


def test_behind_a_proxy_the_form_comes_from_the_address_that_people_know(dark: tuple[Service, dict[str, str]]) -> None:
    running, fields = dark
    outside = {"Origin": "https://rollcall.example", "Sec_Fetch_Site": "same-origin"}
    asked = send(running, fields, **outside)  # no name yet
    assert asked.status_code == 200 and 'name="by"' in asked.text
    kept = {"Host": "rollcall.example", "Cookie": "rollcall_name=Zo%C3%AB"}
    assert send(running, fields, **outside, **kept).status_code == 303
    assert [one["acknowledged_by"] for one in running.items("/v1/alerts")] == ["Zoë"]


def test_with_a_token_the_form_needs_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    login = {"Authorization": "Basic " + base64.b64encode(b"kim:s3cret").decode()}
    with service(tmp_path) as running:
        http_section(running, token={"file": "token"})
        running.rules({"name": "gone", "trigger": "offline", "actions": LOG})
        running.start(ready=False)
        bearer = {"Authorization": "Bearer s3cret", "Content-Type": "application/x-ndjson"}

        def tell(kind: str) -> int:
            try:
                lines = event("G@@@d1", kind, "a")
                return requests.post(f"{running.url}/v1/events", lines, headers=bearer, timeout=60).status_code
            except requests.ConnectionError:
                return 0

        for kind in ("connect", "tcpclean"):
            eventually(lambda kind=kind: tell(kind), lambda status: status == 202)  # type: ignore[misc]
        (fields,) = eventually(lambda: forms(requests.get(running.url, headers=login, timeout=60).text))
        refused = send(running, fields | {"by": "kim"})
        assert (refused.status_code, refused.headers["location"]) == (303, "/login")
        assert send(running, fields | {"by": "kim"}, **login).status_code == 303
