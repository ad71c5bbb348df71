"""The console at `/`: what somebody who was just woken needs to see, at a glance and in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import requests

from tests.acceptance.service import event, eventually, service
from tests.mail.browser import WIDTHS, Browser

SITE = [f"GID_PUMP@@@p-{number}" for number in range(8)]
HOSTILE = "<b>Zoë</b>"
LONG = "GID_STATIONS_OF_THE_NORTHERN_WATERWORKS@@@" + "x" * 160


def lines(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, as text."""
    _, found, rest = page.partition(f">{heading}")
    assert found, f"no heading {heading}"
    body = rest[rest.index("<tbody>") : rest.index("</tbody>")]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[words(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)] for row in rows]


def words(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def numbers(page: str) -> dict[str, str]:
    """The numbers at the top, by their word."""
    return {word: number for number, word in re.findall(r"<li><b.*?>(.*?)</b>(.*?)</li>", page)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The console of a bad night: an outage that is ending, a silence, a storm that was held, a long client id."""
    log = {"log": {"message": "{{ rule.name }}"}}
    outage = {"by": ["group"], "at_least": 4, "within": "1m"}
    with service(tmp_path_factory.mktemp("night"), deliveries={"burst": 3}) as running:
        running.rules(
            {"name": "station-down", "severity": "critical", "trigger": "outage", "outage": outage, "actions": [log]},
            {"name": "pump-offline", "trigger": "offline", "match": {"group": "GID_PUMP"}, "actions": [log]},
            {"name": "camera-dark", "trigger": "offline", "match": {"group": "GID_CAM"}, "actions": [log]},
            {"name": "arrived", "trigger": "online", "match": {"group": "GID_*"}, "actions": [log]},
            {"name": "noted", "trigger": "first_seen", "actions": [log]},
        )
        running.start()
        silence = {"match": {"group": "GID_CAM"}, "for": "2h", "author": HOSTILE, "comment": "new switch"}
        assert running.send("POST", "/v1/silences", silence).status_code == 201
        cameras = [f"GID_CAM@@@c-{number}" for number in range(2)]
        everybody = [*SITE, *cameras, LONG]
        running.tell(*(event(client, "connect", "a") for client in everybody))
        running.tell(*(event(client, "tcpclean", "a") for client in [*SITE, cameras[0], LONG]))
        running.tell(*(event(client, "connect", "b") for client in SITE[:3]))
        yield eventually(
            lambda: requests.get(running.url + "/", timeout=10).text,
            lambda text: "3 of 8 back" in text and HOSTILE not in text and ">Silences" in text,
        )


def test_clients_are_counted_by_status(page: str) -> None:
    found = numbers(page)
    assert (found["online"], found["offline"], found["unknown"]) == ("4", "7", "0")


def test_an_outage_counts_its_members_back(page: str) -> None:
    (line,) = lines(page, "Outages")
    assert line[1:] == ["station-down critical", "group GID_PUMP", "3 of 8 back", "firing", "Acknowledge"]


def test_what_fires_has_its_rule_what_it_is_about_and_since_when(page: str) -> None:
    about = {line[1]: line for line in lines(page, "Firing alerts")}
    assert about["station-down critical"][2] == "group GID_PUMP · 3 of 8 back"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", about["station-down critical"][3])
    assert re.fullmatch(r"\d+[smh]", about["station-down critical"][0])


def test_what_is_suppressed_has_its_reason(page: str) -> None:
    reasons = {(line[1], line[2]): line[4] for line in lines(page, "Suppressed for now")}
    assert reasons["camera-dark", "GID_CAM@@@c-0"] == "silence"
    assert reasons["pump-offline", SITE[7]] == "inhibited"
    assert numbers(page)["suppressed"] == str(len(reasons))


def test_a_silence_has_its_author_and_comment(page: str) -> None:
    (line,) = lines(page, "Silences")
    assert (line[1], *line[3:]) == ("group GID_CAM", HOSTILE, "new switch")
    assert line[2].startswith("2 clients, ")
    assert line[0].startswith("1h59m")


def test_held_deliveries_are_counted_by_rule_with_what_decides_them(page: str) -> None:
    (line,) = lines(page, "Held deliveries")  # eleven new clients: two are silenced, three were told
    assert line == ["6", "noted", "rollcall deliveries release --rule noted or discard --rule noted"]
    assert numbers(page)["held"] == "6"


def test_a_quiet_night_shows_no_empty_lists(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules()
        running.start()
        quiet = requests.get(running.url + "/", timeout=10).text
    for heading in ("Outages", "Suppressed", "Silences", "Held"):
        assert f">{heading}" not in quiet
    assert lines(quiet, "Firing alerts") == [["None."]]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_it_without_running_over(page: str, width: int, tmp_path: Path) -> None:
    still = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", page)
    look = Browser(tmp_path).look(still, width)
    assert look.wide <= width
    assert look.loads == 0
    assert {"Outages", "Silences", "3 of 8 back"} <= {text["text"] for text in look.texts}
