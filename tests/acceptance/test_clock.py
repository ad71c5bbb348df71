"""The wall clock of the machine is wrong, and is set right, while the service runs or while it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.service import Service, event, eventually, now_ms, service, sink, webhook
from tests.acceptance.test_feeds import feed_rule
from tests.acceptance.wall_clock import WallClock

TEN_YEARS_MS = 3_650 * 86_400_000
HOLD = {"debounce": {"offline": "1s", "online": "0s"}}


def offline_rule(url: str) -> dict[str, object]:
    return {"name": "dark", "trigger": "offline", "actions": [webhook(url, "firing")]}


def goes_dark(running: Service, client: str, ahead_ms: int = 0) -> None:
    """A client that was connected is closed; the broker's clock is as far ahead as said."""
    at_ms = now_ms() + ahead_ms
    running.tell(event(client, "connect", "a", at_ms - 2_000), event(client, "tcpclean", "a", at_ms - 1_000))


@pytest.mark.long
def test_offlines_settle_after_a_start_ten_years_ahead_of_time_once_the_clock_is_right(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, **HOLD) as running:
        clock = WallClock(tmp_path)
        running.rules(offline_rule(target.url), feed_rule(target.url))
        clock.set(TEN_YEARS_MS)
        running.start(ready=True, **clock.environment)
        goes_dark(running, "G@@@early")
        clock.set(0)
        (line,) = eventually(lambda: running.log_lines("clock.stepped"))
        assert line["step"].startswith("clock stepped by -3649d") or line["step"].startswith("clock stepped by -3650d")
        goes_dark(running, "G@@@late")
        eventually(
            lambda: {one.body["client"] for one in target.arrivals if one.body.get("rule") == "dark"},
            lambda found: found == {"G@@@early", "G@@@late"},
        )
        eventually(lambda: target.told("source"), lambda found: ("engine clock",) in found)
        (told,) = running.get("/readyz")["degraded"]
        assert told.startswith("clock stepped by -36")
        assert all(client["since"] < "2030" for client in running.items("/v1/clients"))


def test_a_clock_that_was_ahead_until_a_restart_delays_nothing_after_it(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, **HOLD | {"feed": {"max_lag": "1h"}}) as running:
        clock = WallClock(tmp_path)
        rule = offline_rule(target.url) | {"repeat": "2s"}
        running.rules(rule)
        clock.set(TEN_YEARS_MS)
        running.start(ready=True, **clock.environment)
        goes_dark(running, "G@@@p1")
        running.kill()
        clock.set(0)
        running.start(ready=True, **clock.environment)
        eventually(lambda: target.told("client", "phase"), lambda found: len(found) >= 2)
        assert running.log_lines("clock.stepped")


def test_a_clock_that_is_put_ahead_pages_nobody_early_and_loses_no_delivery(tmp_path: Path) -> None:
    hold = {"debounce": {"offline": "1h", "online": "0s"}}
    with sink() as target, service(tmp_path, **hold) as running:
        clock = WallClock(tmp_path)
        running.rules(
            offline_rule(target.url),
            {"name": "seen", "trigger": "first_seen", "actions": [webhook(target.url, "firing")]},
        )
        target.stop()
        running.start(ready=True, **clock.environment)
        running.tell(event("G@@@p1", "connect", "a"))
        eventually(lambda: running.items("/v1/deliveries"), lambda found: found and found[0]["attempts"] > 0)
        running.tell(event("G@@@p1", "tcpclean", "a"))
        clock.set(TEN_YEARS_MS)
        eventually(lambda: running.log_lines("clock.stepped"))
        target.start()
        eventually(lambda: target.told("rule", "client"), lambda found: found == [("seen", "G@@@p1")])
        (client,) = running.items("/v1/clients")
        assert (client["status"], client["observed"]) == ("online", "offline")
        clock.set(0)
        eventually(lambda: running.log_lines("clock.stepped"), lambda found: len(found) == 2)


def test_events_that_are_all_dated_ahead_make_the_feed_degraded_and_are_no_sign_of_life(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, **HOLD) as running:
        running.rules(feed_rule(target.url))
        running.start()
        for number in range(5):
            answer = running.post(event(f"G@@@p{number}", "connect", "a", now_ms() + 300_000))
            assert answer.status_code == 202 and len(answer.json()["rejected"]) == 1
        _, text = eventually(running.readiness, lambda found: found[0] == 503)
        assert "degraded: clock: 5 of the last 5 events" in text
        eventually(lambda: target.told("source", "phase"), lambda found: found == [("push", "firing")])
        (line,) = running.log_lines("feed.trouble")
        assert line["trouble"].startswith("degraded: clock: ")
        assert running.printed("sources")[0]["last_event_at"] is None


def test_a_reconnect_that_a_clock_put_back_refuses_pages_nobody_and_is_accepted_in_its_time(tmp_path: Path) -> None:
    # A hold that lasts until the clock has been put back and the reconnect was refused, on a busy machine too.
    holds = {"debounce": {"offline": "15s", "online": "0s"}}
    with sink() as target, service(tmp_path, **holds) as running:
        clock = WallClock(tmp_path)
        running.rules(offline_rule(target.url))
        running.start(ready=True, **clock.environment)
        goes_dark(running, "G@@@p1")
        clock.set(-70_000)  # the broker's clock is right: what it says lies in the future, by more than a minute
        eventually(lambda: running.log_lines("clock.stepped"))
        assert running.post(event("G@@@p1", "connect", "b")).json()["accepted"] == 0
        goes_dark(running, "G@@@p2", -70_000)
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@p2",)])
        (line,) = eventually(lambda: running.log_lines("clock.refused_accepted"))
        assert line["events"] == 1
        eventually(lambda: running.statuses(), lambda found: found == {"G@@@p1": "online", "G@@@p2": "offline"})
        assert target.told("client") == [("G@@@p2",)]


def test_what_is_refused_for_its_form_makes_the_feed_degraded(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, **HOLD) as running:
        running.rules(feed_rule(target.url))
        running.start()
        for _ in range(5):
            running.post('{"clientId": "G@@@p1"}')
        _, text = eventually(running.readiness, lambda found: found[0] == 503)
        assert "degraded: form: 5 of the last 5 events" in text
        goes_dark(running, "G@@@p1")
        for number in range(20):
            running.tell(event(f"G@@@d{number}", "connect", "a"))
        eventually(lambda: running.readiness()[0], lambda status: status == 200)
        assert running.get("/readyz")["degraded"] == [] or "form: " in running.get("/readyz")["degraded"][0]
