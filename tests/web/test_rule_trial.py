"""A change of rules is tried on the console: checked with positions, run on the history of a real service, and nothing is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import requests

from tests.acceptance.service import Service, event, eventually, now_ms, service

FILE = """version: 1
rules:
  - name: gone
    trigger: offline
    for: {length}
    match: {{group: G}}
    actions: [{{log: {{message: "{{{{ client.id }}}}"}}}}]
"""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a history: eight clients that were away, two of them for good."""
    with service(tmp_path_factory.mktemp("history")) as found:
        (found.folder / "rules" / "site.yaml").write_text(FILE.format(length="1s"))
        found.start()
        at = now_ms() - 3_000
        names = [f"G@@@{number}" for number in range(8)]
        found.tell(*(event(name, "connect", "a", at) for name in names))
        found.tell(*(event(name, "tcpclean", "a", at) for name in names))
        eventually(lambda: found.items("/v1/alerts", state="firing"), lambda some: len(some) == 8)
        found.tell(*(event(name, "connect", "b") for name in names[2:]))
        eventually(lambda: found.items("/v1/alerts", state="firing"), lambda some: len(some) == 2)
        yield found


def send(running: Service, form: str, text: str, **fields: str) -> requests.Response:
    token = re.search(r'data-token="([^"]+)"', requests.get(f"{running.url}/try", timeout=60).text)
    assert token is not None
    told = {"token": token[1], "file": "site.yaml", "text": text, "days": "7", **fields}
    return requests.post(f"{running.url}/act/{form}", told, headers=FORM, timeout=150)


def words(page: requests.Response) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def test_the_page_begins_with_the_file_of_the_rule_at_its_line(running: Service) -> None:
    page = requests.get(f"{running.url}/try", {"rule": "gone"}, timeout=60).text
    assert FILE.format(length="1s") in unescape(page)
    assert 'data-line="3"' in page


def test_a_mistake_is_named_with_its_line_and_column_and_nothing_is_replayed(running: Service) -> None:
    found = send(running, "try-rules", FILE.format(length="soon"))
    assert "line 5, column" in words(found) and "What it would have done" not in words(found)
    assert "No mistake." in words(send(running, "check-rules", FILE.format(length="2m")))
    broken = words(send(running, "check-rules", "rules: [<script>alert(1)</script>"))
    assert (
        "Mistake" in broken and "<script>alert" not in send(running, "check-rules", "a: <script>alert(1)</script>").text
    )


def test_a_longer_for_would_have_fired_less_and_both_numbers_are_said(running: Service) -> None:
    found = words(send(running, "try-rules", FILE.format(length="1h")))
    assert re.search(r"22 events since", found), found
    assert re.search(r"changed gone 8 → 2 \(-75 %\)", found), found
    assert running.items("/v1/alerts", rule="gone", state="firing")  # the rules in force stay
    assert [rule["name"] for rule in running.items("/v1/rules")] == ["gone"]
    assert (running.folder / "rules" / "site.yaml").read_text() == FILE.format(length="1s")


def test_the_file_is_taken_home(running: Service) -> None:
    found = send(running, "download-rules", FILE.format(length="1h"), file='a"b/../c.yaml')
    assert found.text == FILE.format(length="1h")
    assert found.headers["content-disposition"] == 'attachment; filename="ab..c.yaml"'


@pytest.mark.parametrize("name", ["../site.yaml", "/etc/passwd", "", "site.txt", "x/../../y.yaml"])
def test_a_name_that_is_no_rule_file_is_refused(running: Service, name: str) -> None:
    found = send(running, "check-rules", FILE.format(length="1h"), file=name)
    assert found.status_code == 400 and "must end in .yaml" in words(found)


def test_what_is_not_sent_by_our_page_is_refused(running: Service) -> None:
    assert send(running, "try-rules", FILE.format(length="1h"), token="wrong").status_code == 403
    assert send(running, "try-rules", FILE.format(length="1h"), days="8").status_code == 400
    assert send(running, "try-rules", "x" * 300_000).status_code == 413


def test_a_rule_file_elsewhere_is_not_shown(running: Service, tmp_path: Path) -> None:
    (running.folder / "rules" / "notes.txt").write_text("s3cret")
    for name in ("../config.yaml", "notes.txt", str(tmp_path)):
        page = requests.get(f"{running.url}/try", {"file": name}, timeout=60).text
        assert "s3cret" not in page and "listen" not in page
