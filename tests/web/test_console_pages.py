"""Every page of the console in a real browser, on the data of a bad night: accessible, narrow enough, dark, printed, with hostile ids."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.web.bad_night import DARK_CAMERA, HOSTILE, LOST, PUMP_12, Night
from tests.web.chromium import PHONE, violations, width, window


def addresses(night: Night) -> dict[str, str]:
    """Every page, by a name."""
    (outage,) = night.service.items("/v1/alerts", rule="site-down", state="firing")
    dead = night.service.items("/v1/deliveries", state="dead")[0]
    return {
        "overview": "/",
        "clients": "/clients?q=pump",
        "in doubt": "/clients?only=doubtful",
        "client": f"/client?id={quote(PUMP_12)}",
        "long client": f"/client?id={quote(HOSTILE[2])}",
        "hostile client": f"/client?id={quote(HOSTILE[0])}",
        "alerts": "/alerts",
        "hostile alerts": "/alerts?rule=hostile-offline",
        "alert": f"/alert/{outage['id']}",
        "deliveries": "/deliveries",
        "delivery": f"/delivery/{dead['id']}",
        "silences": f"/silences?match={quote('client=' + HOSTILE[2])}&for=8h",
        "rules": "/rules",
        "rule": "/rule/pump-offline",
        "try": "/try?rule=pump-offline",
        "sources": "/sources",
        "sweeps": "/sweeps",
        "fleet": "/fleet",
        "about": "/about",
        "release": "/act/release-held?rule=arrived&back=deliveries",
        "forget": f"/act/forget?client={quote(HOSTILE[1])}&back=clients",
        "nothing": "/client?id=G%40%40%40nothing",
    }


DARK = {"overview", "client", "alert", "delivery", "silences", "try", "release"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_on_any_page_and_none_is_wider_than_a_phone(
    night: Night, browser: Browser, scheme: str
) -> None:
    found = {}
    with window(browser, night.url, viewport=PHONE, color_scheme=scheme) as page:
        for name, address in addresses(night).items():
            if scheme == "dark" and name not in DARK:  # the same elements in other colours
                continue
            page.goto(address)
            page.wait_for_function("document.documentElement.classList.contains('scripted')")
            found[name] = violations(page) + ([f"{width(page)} pixels wide"] if width(page) > PHONE["width"] else [])
    assert {name: some for name, some in found.items() if some} == {}


def test_axe_sees_what_is_wrong(night: Night, browser: Browser) -> None:
    with window(browser, night.url) as page:
        page.goto("/about")
        page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button>')")
        assert [one.partition(":")[0] for one in violations(page)] == ["button-name"]


def test_on_a_desk_nothing_is_violated_either(night: Night, browser: Browser) -> None:
    with window(browser, night.url) as page:
        for name in ("overview", "client", "silences", "rules"):
            page.goto(addresses(night)[name])
            assert violations(page) == []
            assert width(page) <= 1200


def test_ids_are_text_and_do_not_turn_what_is_beside_them(night: Night, browser: Browser) -> None:
    with window(browser, night.url) as page:
        for address in ("/", "/clients?q=GID_H", "/alerts?rule=hostile-offline"):
            page.goto(address)
            expect(page.get_by_text("<script>alert(1)</script><b>bold</b>\"'&amp;").first).to_be_visible()
            assert page.locator("main script, main b:text-is('bold')").count() == 0
            assert "\u202e" not in page.content()
        for client in HOSTILE:  # the link of each leads to its own page
            page.goto("/clients?q=GID_H")
            page.locator(f".row a[href$='{quote(client, safe='/')}']").click()
            expect(page.locator("h1 bdi")).to_be_visible()
            assert page.locator("h1").inner_text().startswith("GID_H@@@")


def test_what_needs_somebody_comes_first(night: Night, browser: Browser) -> None:
    with window(browser, night.url, viewport=PHONE) as page:
        page.goto("/")
        text = page.locator("#live").inner_text()
        places = [text.index(words) for words in ("Outages", "Firing alerts", "Sources in trouble", "Held deliveries", "Dead deliveries", "The fleet")]  # fmt: skip
        assert places == sorted(places)
        outage = page.locator(".row", has_text="site-down").inner_text()
        for words in ("critical", "site west", "3 of 10 back", "since", "min"):
            assert words in outage


def test_without_scripts_every_page_says_the_same(night: Night, browser: Browser) -> None:
    with window(browser, night.url, viewport=PHONE, java_script_enabled=False) as page:
        for name, words in {"client": "silenced by Zoë", "delivery": "HTTP 410", "sweeps": LOST, "rules": "suppressed by a silence",
                            "silences": "It covers 1 client", "sources": "old.jsonl", "clients": PUMP_12}.items():  # fmt: skip
            page.goto(addresses(night)[name])
            assert words in page.locator("main").inner_text(), name
        page.goto("/")
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("link", name="Silences", exact=True).click()
        expect(page.get_by_role("heading", name="Silences")).to_be_visible()


def test_print_leaves_out_what_cannot_be_pressed_on_paper(night: Night, browser: Browser) -> None:
    with window(browser, night.url) as page:
        page.goto("/")
        page.emulate_media(media="print")
        expect(page.get_by_role("button", name="Acknowledge").first).to_be_hidden()
        expect(page.locator("nav.pages")).to_be_hidden()
        expect(page.get_by_text(DARK_CAMERA).first).to_be_visible()


def test_times_are_local_with_utc_on_hover(night: Night, browser: Browser) -> None:
    with window(browser, night.url, timezone_id="Asia/Kolkata") as page:
        page.goto(addresses(night)["alert"])
        first = page.locator("time").first
        expect(first).to_have_attribute("title", first.get_attribute("datetime").replace("T", " ").replace("Z", " UTC"))  # type: ignore[union-attr]
        utc, shown = first.get_attribute("datetime"), first.inner_text()
        assert utc is not None and utc[14:19] != shown[-5:]  # half an hour more, so the minutes differ
