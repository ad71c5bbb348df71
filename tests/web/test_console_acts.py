"""What people do on the console in a real browser: acts with what they will do beforehand, keys, changes that arrive by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.service import Answer, event, eventually, now_ms
from tests.web.bad_night import DARK_CAMERA, LONG, LOST, PUMP_12, WEST, Night
from tests.web.chromium import PHONE, window


@pytest.fixture
def page(night: Night, browser: Browser) -> Iterator[Page]:
    with window(browser, night.url, viewport=PHONE, timezone_id="Europe/Berlin") as found:
        yield found


def test_an_outage_is_acknowledged_and_the_page_says_by_whom(night: Night, page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name=re.compile("Acknowledge site-down")).click()
    page.get_by_label("Your name").fill("Zoë <i>")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("status")).to_contain_text("Acknowledged: 1 alert")
    expect(page.locator(".row", has_text="site-down")).to_contain_text("acknowledged by Zoë <i>")
    assert night.service.items("/v1/alerts", rule="site-down")[0]["acknowledged_by"] == "Zoë <i>"


def test_the_camera_noise_is_stopped_until_monday_morning_and_let_loose_again(night: Night, page: Page) -> None:
    page.goto("/silences")
    page.get_by_label(re.compile("Which clients")).fill("device=cam-*")
    expect(page.locator("#covers")).to_contain_text(re.compile(r"It covers 1\d clients"))
    page.get_by_role("button", name="Monday 8:00").click()
    page.get_by_label("Your name").fill("kim")
    page.get_by_role("button", name="Silence", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("It covers")
    (made,) = (one for one in night.service.items("/v1/silences", state="active") if one["author"] == "kim")
    until = datetime.fromisoformat(made["until"])
    assert made["match"] == {"device": ["cam-*"]} and until.tzinfo == UTC
    local = page.evaluate(
        "at => { const d = new Date(at); return [d.getDay(), d.getHours(), d.getMinutes()] }", made["until"]
    )
    assert local == [1, 8, 0]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("The silence has ended")
    assert night.service.get(f"/v1/silences/{made['id']}")["state"] == "expired"


def test_an_empty_form_silences_nothing(night: Night, page: Page) -> None:
    before = night.service.items("/v1/silences")
    page.goto("/silences")
    page.get_by_label("Your name").fill("kim")
    page.get_by_role("button", name="Silence", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="say what to silence")).to_be_visible()
    assert night.service.items("/v1/silences") == before


def test_a_dead_delivery_is_sent_again(night: Night, page: Page) -> None:
    night.sink.answer = lambda arrival: Answer(204)
    dead = night.service.items("/v1/deliveries", state="dead")[0]["id"]
    page.goto("/")
    page.get_by_role("link", name=f"Delivery {dead}").click()
    page.get_by_role("button", name="Send it again").click()
    expect(page.locator(".lead")).to_contain_text("delivered")  # the page changes by itself
    assert night.service.get(f"/v1/deliveries/{dead}")["state"] == "delivered"


def test_what_is_held_is_released_after_it_was_said_how_many_and_how_old(night: Night, page: Page) -> None:
    page.goto("/deliveries")
    page.locator(".row", has_text="pump-offline").get_by_role("link", name="Release…").click()
    expect(page.locator("main")).to_contain_text(re.compile(r"\d+ held deliveries to http://.*/pump\. The oldest is"))
    page.get_by_role("button", name="Release all").click()
    expect(page.get_by_role("status")).to_contain_text("were released")
    eventually(lambda: night.service.items("/v1/deliveries", state="held", rule="pump-offline"), lambda left: not left)


def test_a_client_is_queried_now(night: Night, page: Page) -> None:
    night.stand_in.truth[PUMP_12] = 0
    page.goto("/")
    page.get_by_label("Find a client").first.fill("pump-00012")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=PUMP_12).click()
    page.get_by_role("button", name="Query the broker now").click()
    expect(page.get_by_role("status")).to_contain_text(f"The broker says now: {PUMP_12} is offline")


def test_a_client_is_forgotten_after_it_was_said_what_that_means(night: Night, page: Page) -> None:
    page.goto(f"/client?id={quote(LONG)}")
    page.get_by_role("link", name="Forget…").click()
    expect(page.locator("main")).to_contain_text("1 open alert about it is closed without a recovery")
    expect(page.locator("main")).to_contain_text("cannot be undone")
    page.get_by_role("link", name="Leave it as it is").click()
    assert LONG in night.service.statuses()
    page.goto(f"/client?id={quote(LONG)}")
    page.get_by_role("link", name="Forget…").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_role("status")).to_contain_text("was forgotten")
    assert LONG not in night.service.statuses()


def test_a_sweep_is_begun_and_shows_what_it_corrects(night: Night, page: Page) -> None:
    page.goto("/sweeps")
    expect(page.locator("main")).to_contain_text(LOST)
    page.get_by_role("link", name="Begin a dry run…").click()
    expect(page.locator("main")).to_contain_text("Nothing is corrected")
    page.get_by_role("button", name="Begin the dry run").click()
    expect(page.get_by_role("status")).to_contain_text("has begun")


def test_clients_are_found_as_they_are_typed(page: Page) -> None:
    page.goto("/clients")
    field = page.locator("#q")
    field.press_sequentially("CAM-009")
    expect(page.locator("#found .row")).to_have_count(1)
    expect(page.locator("#found .row")).to_contain_text(DARK_CAMERA)
    expect(page).to_have_url(re.compile(r"/clients\?q=CAM-009"))  # can be pasted into a chat
    field.fill("site=west")
    expect(page.locator("#found .row")).to_have_count(len(WEST))


def test_keys_find_move_acknowledge_silence_and_explain(night: Night, page: Page) -> None:
    page.goto("/")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.wait_for_function(
        "document.activeElement === document.body"
    )  # the browser gives the focus back a moment later
    page.keyboard.press("j")
    first = page.locator(".row .go").first
    expect(first).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator(".row .go").nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(first).to_be_focused()
    page.locator(".row", has_text=DARK_CAMERA).first.locator(".go").focus()
    page.keyboard.press("s")
    expect(page.locator("#covers")).to_contain_text("It covers 1 client")
    page.go_back()
    page.locator(".row", has_text=DARK_CAMERA).first.locator(".go").focus()
    page.keyboard.press("a")
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("kim")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Acknowledged")


def test_a_change_arrives_by_itself_and_a_restart_under_an_open_page_is_survived(night: Night, page: Page) -> None:
    running = night.service
    page.goto(f"/client?id={quote(WEST[11])}")
    expect(page.locator(".lead")).to_contain_text("online")
    running.tell(event(WEST[11], "connect", "another", now_ms()))
    expect(page.locator("main .facts")).to_contain_text("another")
    expect(page.locator("#lost")).to_be_hidden()
    running.kill()
    expect(page.locator("#lost")).to_be_visible()
    running.start(ready=False)
    expect(page.locator("#lost")).to_be_hidden()
    # The token of the page is of a process that is gone; the one of the new process came with the changes.
    page.get_by_role("button", name="Query the broker now").click()
    expect(page.get_by_role("status")).to_contain_text("The broker says now")


def test_what_is_replaced_keeps_the_keyboard_and_what_is_folded_out(night: Night, page: Page) -> None:
    page.goto(f"/client?id={quote(WEST[0])}")
    page.locator("summary", has_text="pump-offline").click()
    expect(page.locator("details[open] .stages").first).to_be_visible()
    page.get_by_role("link", name="Silence…").first.focus()
    night.service.tell(event(WEST[0], "connect", "replaced", now_ms()))
    expect(page.locator("main .facts")).to_contain_text("replaced")
    expect(page.get_by_role("link", name="Silence…").first).to_be_focused()
    expect(page.locator("details[open] .stages").first).to_be_visible()


def test_a_page_can_be_held_still(night: Night, page: Page) -> None:
    page.goto(f"/client?id={quote(WEST[10])}")
    page.get_by_role("button", name="Pause updates").click()
    night.service.tell(event(WEST[10], "connect", "unseen", now_ms()))
    eventually(
        lambda: night.service.get(f"/v1/clients/{quote(WEST[10])}/timeline")["items"][0].get("channel") == "unseen"
    )
    page.wait_for_timeout(2_500)  # two changes' worth
    expect(page.locator("main .facts")).not_to_contain_text("unseen")
    page.get_by_role("button", name="Go on updating").click()
    expect(page.locator("main .facts")).to_contain_text("unseen")
