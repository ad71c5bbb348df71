"""Rule files edited while the service runs: broken ones change nothing, gone ones end what they said, and both are shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pytest

from tests.acceptance.service import Service, Sink, event, eventually, offline_rule, service, sink, webhook

CLIENT = "G@@@a"


def connect(running: Service, channel: str) -> None:
    running.tell(event(CLIENT, "connect", channel))
    eventually(running.statuses, lambda found: found.get(CLIENT) == "online")


def close(running: Service, channel: str) -> None:
    running.tell(event(CLIENT, "tcpclean", channel))
    eventually(running.statuses, lambda found: found.get(CLIENT) == "offline")


def heard(target: Sink, *wanted: tuple[str, str]) -> None:
    """Wait until the target has heard exactly this, as (rule, phase); between rules there is no order."""

    def by_rule(told: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        return sorted(told, key=lambda entry: entry[0])

    eventually(lambda: by_rule(target.told("rule", "phase")), lambda found: found == by_rule(wanted))


def since_ms(instant: str) -> int:
    """An RFC 3339 instant in epoch milliseconds."""
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def names(running: Service) -> list[str]:
    return [rule["name"] for rule in running.get("/v1/rules")["items"]]


def test_a_file_broken_in_the_middle_of_an_edit_leaves_the_running_rules_in_force(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, name="before"))
        running.start()
        connect(running, "1")
        (tmp_path / "rules" / "rules.yaml").write_text("version: 1\nrules: [{name: after, trigger: offl")
        eventually(lambda: running.metric("rollcall_rules_broken"), lambda found: found == 1)
        problem = running.get("/v1/rules")["problem"]
        assert "rules.yaml:3" in problem
        (line,) = running.log_lines("rules.broken")
        assert line["first"] in problem
        assert names(running) == ["before"]
        close(running, "1")
        heard(target, ("before", "firing"))

        running.rules(offline_rule(target.url, name="before"), offline_rule(target.url, name="after"))
        eventually(lambda: running.metric("rollcall_rules_broken"), lambda found: found == 0)
        assert running.get("/v1/rules")["problem"] is None and names(running) == ["before", "after"]
        (line,) = running.log_lines("rule.new")
        assert (line["rule"], line["clients"], line["fired"]) == ("after", 1, False)  # it says whom it passed over
        connect(running, "2")
        close(running, "2")
        heard(target, ("before", "firing"), ("before", "recovery"), ("before", "firing"), ("after", "firing"))


def test_a_rule_that_comes_back_in_time_has_lost_nothing(tmp_path: Path) -> None:
    """A checkout passes through: the file is gone for a moment."""
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url), file="one.yaml")
        running.rules(offline_rule(target.url, name="other"), file="two.yaml")
        running.start()
        connect(running, "1")
        close(running, "1")
        heard(target, ("gone", "firing"), ("other", "firing"))
        (tmp_path / "rules" / "one.yaml").unlink()
        eventually(lambda: names(running), lambda found: found == ["other"])
        running.rules(offline_rule(target.url), file="one.yaml")
        eventually(lambda: sorted(names(running)), lambda found: found == ["gone", "other"])
        connect(running, "2")
        eventually(lambda: sorted(target.told("rule", "phase")[2:]), lambda found: len(found) == 2)
        assert sorted(target.told("rule", "phase", "reason")[2:]) == [
            ("gone", "recovery", ""),
            ("other", "recovery", ""),
        ]


@pytest.mark.long  # it waits for the minute after which a rule is retired
def test_a_rule_that_is_gone_for_good_ends_its_alerts(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url), file="one.yaml")
        running.rules(offline_rule(target.url, name="other"), file="two.yaml")
        running.start(ROLLCALL_RETIRE_AFTER_MS="300")
        connect(running, "1")
        close(running, "1")
        heard(target, ("gone", "firing"), ("other", "firing"))
        (tmp_path / "rules" / "one.yaml").unlink()
        heard(target, ("gone", "firing"), ("other", "firing"), ("gone", "recovery"))
        assert ("gone", "recovery", "rule_removed") in target.told("rule", "phase", "reason")
        assert [line["rule"] for line in running.log_lines("rule.retired")] == ["gone"]
        (alert,) = running.items("/v1/alerts", state="firing")
        assert alert["rule"] == "other"


@pytest.mark.long  # it waits for the minute after which a rule is retired
def test_a_rule_removed_while_the_service_was_down_ends_its_alerts_too(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url), file="one.yaml")
        running.rules(offline_rule(target.url, name="other"), file="two.yaml")
        running.start()
        connect(running, "1")
        close(running, "1")
        heard(target, ("gone", "firing"), ("other", "firing"))
        running.kill()
        (tmp_path / "rules" / "one.yaml").unlink()
        running.start(ROLLCALL_RETIRE_AFTER_MS="300")
        heard(target, ("gone", "firing"), ("other", "firing"), ("gone", "recovery"))
        running.kill()
        running.start(ROLLCALL_RETIRE_AFTER_MS="300")
        connect(running, "2")
        heard(target, ("gone", "firing"), ("other", "firing"), ("gone", "recovery"), ("other", "recovery"))


def test_alerts_and_pending_fors_outlive_an_edit_and_a_restart(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        waiting = offline_rule(target.url, name="waiting", for_="10s")
        running.rules(offline_rule(target.url), waiting)
        running.start()
        connect(running, "1")
        close(running, "1")
        heard(target, ("gone", "firing"))
        edited = [rule | {"description": "edited"} for rule in (offline_rule(target.url), waiting)]
        edited[0]["on_recovery"] = [webhook(f"{target.url}/edited", "recovery")]
        running.rules(*edited)
        eventually(lambda: running.log_lines("rules.loaded"))
        running.kill()
        running.start()
        assert {(alert["rule"], alert["state"]) for alert in running.items("/v1/alerts")} == {
            ("gone", "firing"),
            ("waiting", "pending"),
        }
        assert not running.log_lines("rule.new")
        heard(target, ("gone", "firing"), ("waiting", "firing"))
        connect(running, "2")
        eventually(target.first_seen, lambda found: len(found) == 4)
        assert [arrival.path for arrival in target.first_seen() if arrival.body["rule"] == "gone"][-1] == "/edited"


def test_a_hold_outlives_an_edit(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, debounce={"offline": "4s", "online": "0s"}) as running:
        running.rules(offline_rule(target.url))
        running.start()
        connect(running, "1")
        running.tell(event(CLIENT, "tcpclean", "1"))
        (before,) = running.items("/v1/clients")
        assert (before["status"], before["observed"]) == ("online", "offline")
        running.rules(offline_rule(target.url) | {"severity": "critical"})
        eventually(lambda: running.log_lines("rules.loaded"))
        heard(target, ("gone", "firing"))
        (after,) = running.items("/v1/clients")
        assert since_ms(after["settled_at"]) - since_ms(after["since"]) == 4000


def test_a_restart_beside_a_broken_file_goes_on_with_the_rules_of_before(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, name="before"))
        running.start()
        connect(running, "1")
        running.kill()
        (tmp_path / "rules" / "rules.yaml").write_text("version: 1\nrules: [{name: after, trigger: offl")
        running.start()
        assert names(running) == ["before"] and running.metric("rollcall_rules_broken") == 1
        assert "rules.yaml:3" in running.get("/v1/rules")["problem"]
        close(running, "1")
        heard(target, ("before", "firing"))

        running.rules(offline_rule(target.url, name="before"), offline_rule(target.url, name="after"))
        eventually(lambda: names(running), lambda found: found == ["before", "after"])
        assert running.metric("rollcall_rules_broken") == 0


def test_a_first_start_beside_a_broken_file_is_refused_with_every_problem(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        (tmp_path / "rules" / "rules.yaml").write_text("version: 1\nrules: [{name: a, triger: offline}]")
        process = running.start(ready=False)
        assert process.wait(30) == 1
        assert "did you mean `trigger`?" in running.log_text() and "Traceback" not in running.log_text()
