"""The console in a real browser, signed in: nobody is shown what they may not do, and their name signs what they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.service import Service, event, eventually
from tests.access.people import PASSWORD, Person, bearer, inhabited
from tests.web.chromium import PHONE, chromium, violations, window

CLIENT = "G@@@d1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with users, and one alert."""
    folder: Path = tmp_path_factory.mktemp("roles")
    with inhabited(folder) as found:
        for kind in ("connect", "tcpclean"):
            headers = bearer("source-token") | {"Content-Type": "application/x-ndjson"}
            answer = requests.post(f"{found.url}/v1/events", event(CLIENT, kind, "a"), headers=headers, timeout=60)
            assert answer.status_code == 202, answer.text
        headers = bearer("viewer-token")
        eventually(
            lambda: requests.get(f"{found.url}/v1/alerts?state=firing", headers=headers, timeout=60).json()["items"]
        )
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def sign_in(page: Page, name: str) -> None:
    page.goto("/")
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#live h1")).to_be_visible()


def test_a_viewer_sees_the_alert_and_no_button(running: Service, browser: Browser) -> None:
    with window(browser, running.url, viewport=PHONE) as page:
        sign_in(page, "vera")
        expect(page.locator(".row", has_text=CLIENT).first).to_be_visible()
        assert violations(page) == []
        for address in ("/", f"/client?id={CLIENT}", "/silences", "/sweeps", "/deliveries"):
            page.goto(address)
            assert page.locator("main form[action*='/act/'], main a[href*='/act/']").count() == 0, address
            assert page.get_by_role("button", name="Acknowledge").count() == 0


def test_an_operator_acknowledges_with_the_name_of_the_session_and_may_not_forget(
    running: Service, browser: Browser
) -> None:
    with window(browser, running.url, viewport=PHONE) as page:
        sign_in(page, "otto")
        page.goto(f"/client?id={CLIENT}")
        assert page.get_by_role("link", name="Forget…").count() == 0
        page.get_by_role("button", name="Acknowledge").first.click()
        expect(page.get_by_role("status")).to_contain_text("Acknowledged: 1 alert")
        expect(page.locator("main")).to_contain_text("acknowledged by otto")


def test_an_open_page_says_that_its_session_has_ended_and_leads_back_to_where_it_was(
    running: Service, browser: Browser
) -> None:
    with window(browser, running.url) as page:
        sign_in(page, "vera")
        page.goto("/alerts")
        secret = next(one["value"] for one in page.context.cookies() if one["name"] == "rollcall_session")
        thief = Person(running)
        thief.bring(secret)
        with page.expect_response(lambda answer: answer.status == 401 and "/events" in answer.url):
            assert thief.submit("/logout", {"token": thief.csrf()}).status_code == 303
        expect(page.locator("#ended")).to_be_visible()
        expect(page.locator("#lost")).to_be_hidden()
        assert violations(page) == []
        page.get_by_role("link", name="Sign in again").click()
        page.wait_for_url("**/login?next=%2Falerts")
