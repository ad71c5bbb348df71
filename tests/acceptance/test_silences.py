"""Silences, time intervals, acknowledgements and the limit on bursts, on a real service and on its store without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.acceptance.service import Service, event, eventually, offline_rule, service, sink

SAID = ("--author", "Zoë", "--comment", "new pumps")


def connect(running: Service, *clients: str) -> None:
    running.tell(*[event(client, "connect", f"{client}-1") for client in clients])
    eventually(running.statuses, lambda found: all(found.get(client) == "online" for client in clients))


def close(running: Service, *clients: str) -> None:
    running.tell(*[event(client, "tcpclean", f"{client}-1") for client in clients])
    eventually(running.statuses, lambda found: all(found.get(client) == "offline" for client in clients))


def alerts(running: Service) -> list[tuple[str, str, str | None]]:
    return sorted((alert["client"], alert["state"], alert["reason"]) for alert in running.items("/v1/alerts"))


def asked(running: Service, method: str, path: str, **more: object) -> requests.Response:
    headers = {"Content-Type": "application/json"}
    return requests.request(method, f"{running.url}{path}", headers=headers, timeout=30, **more)  # type: ignore[arg-type]


def test_a_silence_suppresses_the_clients_that_match_and_they_fire_together_when_it_expires(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, hook={"json": {"n": "{{ alert.count }}", "who": "{{ alert.clients }}"}}))
        running.start()
        connect(running, "P@@@a", "P@@@b", "Q@@@c")
        (silence,) = running.printed("silence", "add", "--match", "group=P", "--for", "2h", *SAID)
        assert (silence["state"], silence["match"], silence["author"], silence["comment"]) == (
            "active",
            {"group": ["P"]},
            "Zoë",
            "new pumps",
        )
        close(running, "P@@@a", "P@@@b", "Q@@@c")
        (first,) = eventually(target.first_seen)
        assert first.body["who"] == "['Q@@@c']"
        assert alerts(running) == [
            ("P@@@a", "suppressed", "silence"),
            ("P@@@b", "suppressed", "silence"),
            ("Q@@@c", "firing", None),
        ]
        assert running.metric("rollcall_silences") == 1
        assert running.metric('rollcall_alerts_suppressed_total{reason="silence"}') == 2
        (ended,) = running.printed("silence", "expire", silence["id"])
        assert (ended["id"], ended["state"]) == (silence["id"], "expired")
        _, second = eventually(target.first_seen, lambda found: len(found) == 2)
        assert second.body == {"n": "2", "who": "['P@@@a', 'P@@@b']"}
        assert running.metric("rollcall_silences") == 0


def test_a_silence_outlives_a_restart_and_its_recovery_rule_too(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start()
        connect(running, "P@@@a", "P@@@b")
        close(running, "P@@@a")
        eventually(target.first_seen)
        (silence,) = running.printed("silence", "add", "--match", "device=*", "--for", "1h", *SAID)
        running.kill()
        running.start()
        close(running, "P@@@b")
        assert alerts(running) == [("P@@@a", "firing", None), ("P@@@b", "suppressed", "silence")]
        running.tell(event("P@@@a", "connect", "2"), event("P@@@b", "connect", "2"))
        eventually(target.first_seen, lambda found: len(found) == 2)
        assert target.told("client", "phase") == [("P@@@a", "firing"), ("P@@@a", "recovery")]
        assert [found["id"] for found in running.items("/v1/silences")] == [silence["id"]]


def test_without_a_service_the_store_takes_silences_and_the_next_run_keeps_to_them(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start()
        connect(running, "P@@@a", "Q@@@b")
        running.terminate()
        (silence,) = running.printed("silence", "add", "--match", "client=P@@@*", "--for", "1h", *SAID)
        (other,) = running.printed("silence", "add", "--match", "group=Q", "--for", "1h", *SAID)
        running.printed("silence", "expire", other["id"])
        again = running.command("silence", "expire", other["id"])
        assert (again.returncode, again.stderr.startswith(f"the silence {other['id']} has already expired")) == (
            1,
            True,
        )
        assert [found["state"] for found in running.printed("silence", "list")] == ["expired", "active"]
        assert "new pumps" in running.command("silence", "list").stdout
        running.start()
        close(running, "P@@@a", "Q@@@b")
        eventually(target.first_seen)
        assert alerts(running) == [("P@@@a", "suppressed", "silence"), ("Q@@@b", "firing", None)]
        assert [found["id"] for found in running.items("/v1/silences", state="active")] == [silence["id"]]


def test_silences_are_listed_in_pages_and_read_alone(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules()
        running.start()
        made = [
            asked(running, "POST", "/v1/silences", json={
                "match": {"group": ["A", "B*"], "ip": "10.0.0.0/8"}, "for": "1h", "author": name, "comment": "c",
            }).json()
            for name in ("a", "b", "c")
        ]  # fmt: skip
        first = running.get("/v1/silences", limit=2)
        rest = running.get("/v1/silences", limit=2, cursor=first["next"])
        listed = [found["id"] for found in (*first["items"], *rest["items"])]
        assert sorted(listed) == sorted(found["id"] for found in made) and rest["next"] is None
        assert running.get("/v1/silences", author="b")["items"] == [made[1]]
        assert running.get(f"/v1/silences/{made[0]['id']}") == made[0]
        assert made[0]["match"] == {"group": ["A", "B*"], "ip": ["10.0.0.0/8"]}
        assert asked(running, "DELETE", f"/v1/silences/{made[0]['id']}").status_code == 200
        assert asked(running, "POST", f"/v1/silences/{made[0]['id']}/expire").status_code == 409
        assert asked(running, "DELETE", "/v1/silences/nonsense").status_code == 404


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A service that is only asked."""
    with service(tmp_path_factory.mktemp("idle")) as running:
        running.rules()
        running.start()
        yield running


GOOD = {"match": {"group": "G"}, "for": "1h", "author": "a", "comment": "c"}


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({"match": None}, "`match` is missing"),
        ({"match": {"grup": "G"}}, "`match`: `grup` is not a key of a match; did you mean `group`?"),
        ({"match": {"group": 5}}, "`match`: `group` must be a pattern or a list of patterns"),
        ({"match": {"ip": "10.0.0.0/99"}}, "`match`: `ip=10.0.0.0/99` is not a network in CIDR form"),
        ({"for": "soon"}, "`for` must be a duration"),
        ({"rule": []}, "`rule` must be the name of a rule, or a pattern such as pump-*"),
        ({"rule": "re:("}, "`rule`: `re:(` is not a valid RE2 expression"),
        ({"match": {"rule": 5}}, "`match`, `rule` must be the name of a rule"),
        ({"from": "2020-01-01T00:00:00Z"}, "`from` is 2020-01-01T00:00:00.000Z, which is past"),
        ({"from": "tomorrow"}, "`from` must be an instant such as"),
        ({"from": "9000h"}, "`from` is "),
        ({"dry_run": "yes"}, "`dry_run` must be true or false"),
        ({"for": "0s"}, "`for` must be longer than 0"),
        ({"author": " "}, "`author` is missing: write one line of text"),
        ({"comment": None}, "`comment` is missing"),
        ({"comment": "a\nb"}, "`comment` must be one line of at most 1000 characters"),
        ({"until": "tomorrow"}, "unknown key 'until'"),
    ],
)
def test_a_silence_that_cannot_be_is_refused_in_a_sentence(
    idle: Service, changed: dict[str, object], title: str
) -> None:
    answer = asked(idle, "POST", "/v1/silences", json={**GOOD, **changed})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["title"].startswith(title)


def test_a_silence_for_no_client_in_particular_must_be_asked_for(idle: Service) -> None:
    done = idle.command("silence", "add", "--for", "1h", *SAID)
    assert (done.returncode, done.stderr.startswith("give --match key=pattern")) == (2, True)
    everything = idle.printed("silence", "add", "--everything", "--for", "1s", *SAID)
    assert everything[0]["match"] == {}


def test_before_and_after_it_is_made_a_silence_says_what_it_covers(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules(offline_rule("http://127.0.0.1:9/"), offline_rule("http://127.0.0.1:9/", name="other"))
        running.start()
        connect(running, "P@@@a", "P@@@b", "Q@@@c")
        close(running, "P@@@a")
        (tried,) = running.printed("silence", "add", "--dry-run", "--match", "group=P", "--match", "rule=oth*")
        assert (tried["id"], tried["state"], tried["covers"]) == (None, "active", {"clients": 2, "alerts": 1})
        assert (tried["match"], tried["rule"], tried["warnings"]) == ({"group": ["P"]}, ["oth*"], [])
        assert running.items("/v1/silences") == []
        body = {"match": {"group": "P"}, "rule": "other", "for": "1h", "author": "Zoë", "comment": "c"}
        made = asked(running, "POST", "/v1/silences", json=body).json()
        assert (made["covers"], made["warnings"]) == ({"clients": 2, "alerts": 1}, [])
        assert running.items("/v1/silences") == [made]
        table = running.command("silence", "list").stdout
        assert "2 clients, 1 alert" in table and "other" in table
        none = running.command("silence", "add", "--match", "rule=othre", "--for", "1h", *SAID)
        assert none.returncode == 0
        assert "it covers 0 clients and 0 open alerts" in none.stdout
        assert "no rule that is loaded matches `rule=othre`; did you mean `other`?" in none.stderr
        assert "it covers no client that is known and no open alert" in none.stderr


def test_a_silence_that_is_planned_waits_for_its_beginning_also_over_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules(offline_rule("http://127.0.0.1:9/"))
        running.start()
        connect(running, "P@@@a")
        (made,) = running.printed("silence", "add", "--match", "rule=*", "--from", "1h", "--for", "1h", *SAID)
        running.kill()
        running.start()
        (found,) = running.printed("silence", "list", "--state", "planned")
        assert found == made and found["state"] == "planned"
        close(running, "P@@@a")
        assert alerts(running) == [("P@@@a", "firing", None)]
        (ended,) = running.printed("silence", "expire", made["id"])
        assert (ended["state"], ended["from"]) == ("expired", ended["until"])


def test_an_acknowledged_alert_reminds_nobody_and_still_recovers(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, repeat="1s"))
        running.start()
        connect(running, "P@@@a")
        close(running, "P@@@a")
        eventually(target.first_seen, lambda found: len(found) >= 2)
        (told,) = running.printed("alerts", "ack", "gone", "P@@@a", "--by", "Zoë")
        assert told["acknowledged"] == 1
        (alert,) = running.items("/v1/alerts")
        assert alert["acknowledged_by"] == "Zoë"
        again = running.command("alerts", "ack", alert["id"])
        assert (again.returncode, again.stderr.strip()) == (
            1,
            f"the alert {alert['id']} has already been acknowledged by Zoë",
        )
        running.kill()
        running.start()
        reminded = len(target.first_seen())
        running.tell(event("P@@@a", "connect", "2"))
        eventually(target.first_seen, lambda found: len(found) > reminded)
        assert [phase for (phase,) in target.told("phase")][-1] == "recovery"
        assert len(target.first_seen()) == reminded + 1
        assert asked(running, "POST", "/v1/alerts/nonsense/ack").status_code == 404
        assert running.command("alerts", "ack", "gone", "P@@@a").returncode == 1


def test_a_rule_that_says_too_much_is_held_and_an_operator_decides(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, deliveries={"burst": 3}) as running:
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        clients = [f"P@@@{number}" for number in range(8)]
        connect(running, *clients)
        close(running, *clients)
        eventually(lambda: running.items("/v1/deliveries", state="held"), lambda found: len(found) == 5)
        seen = eventually(target.first_seen, lambda found: len(found) == 4)
        (summary,) = [arrival.body for arrival in seen if "text" in arrival.body]
        assert "gone decided more than 3 deliveries in a minute" in summary["text"]
        first = running.items("/v1/deliveries", state="held")[-1]["id"]
        (released,) = running.printed("deliveries", "release", str(first))
        assert released["state"] in {"due", "delivered"}
        again = running.command("deliveries", "release", str(first))
        assert again.returncode == 1 and "only a held delivery can be released" in again.stderr
        eventually(target.first_seen, lambda found: len(found) == 5)
        second = running.items("/v1/deliveries", state="held")[-1]["id"]
        assert running.printed("deliveries", "discard", str(second))[0]["state"] == "discarded"
        assert running.printed("deliveries", "release", "--rule", "gone") == [{"rule": "gone", "changed": 3}]
        eventually(target.first_seen, lambda found: len(found) == 8)
        assert running.printed("deliveries", "discard", "--rule", "gone") == [{"rule": "gone", "changed": 0}]
        assert running.command("deliveries", "release").returncode == 2


def test_why_not_names_the_stage_and_the_reason_with_and_without_a_service(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        windows = [{"hours": "00:00-24:00"}]
        running.rules(
            offline_rule(target.url, throttle={"max": 1, "per": "1h", "by": ["group"]}),
            offline_rule(target.url, name="muted", mute=windows),
            offline_rule(target.url, name="other", match={"group": "X"}),
        )
        running.start()
        connect(running, "P@@@a", "P@@@b", "P@@@c", "P@@@on")
        close(running, "P@@@a", "P@@@b")
        (silence,) = running.printed("silence", "add", "--match", "device=c", "--for", "1h", *SAID)
        close(running, "P@@@c")
        expected = [
            ("gone", "P@@@a", "alert", "it has fired already"),
            ("gone", "P@@@b", "throttle", "the throttle is full: 1 of 1 firings in 1h for group P"),
            ("gone", "P@@@c", "silence", f"silenced by Zoë: new pumps (silence {silence['id']})"),
            ("gone", "P@@@on", "trigger", "the trigger offline has not happened"),
            ("muted", "P@@@a", "mute", "muted by a time interval (`active`, `mute`)"),
            ("other", "P@@@a", "match", "its match does not include P@@@a"),
        ]

        def check() -> None:
            for rule, client, gate, why in expected:
                (found,) = running.printed("why-not", rule, client)
                assert (found["stopped_by"], why in found["why"]) == (gate, True), found
                assert f"{rule} for {client}: " in running.command("why-not", rule, client).stdout
            done = running.command("why-not", "nonsense", "P@@@a")
            assert (done.returncode, done.stderr.strip()) == (1, "there is no rule 'nonsense'")

        check()
        found = running.get("/v1/rules/gone/why-not", client="P@@@c")
        (closed,) = [gate for gate in found["gates"] if gate["gate"] == "silence"]
        assert (closed["open"], closed["until"]) == (False, silence["until"])
        assert asked(running, "GET", "/v1/rules/gone/why-not").status_code == 400
        running.terminate()
        check()


def test_a_delivery_shows_every_stage_that_its_decision_passed_by_the_rule_at_that_time(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        rule = offline_rule(
            target.url, condition="not graceful", throttle={"max": 9, "per": "1h"}, match={"group": "P"}
        )
        running.rules(rule)
        running.start()
        connect(running, "P@@@a")
        close(running, "P@@@a")
        eventually(target.first_seen)
        running.rules(rule | {"condition": "graceful"})
        eventually(lambda: running.log_lines("rules.loaded"))
        for runs in (True, False):
            (found,) = running.printed("deliveries", "show", "1")
            assert [gate["gate"] for gate in found["passed"]] == [
                *("match", "trigger", "condition", "silence", "inhibited", "throttle"),
            ]
            told = running.command("deliveries", "show", "1").stdout
            assert "the condition was true: not graceful" in told
            assert 'its match included P@@@a: {"group": "P"}' in told
            if runs:
                running.terminate()


def test_one_outage_speaks_for_its_members_and_counts_them_back(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        body = {"rule": "{{ rule.name }}", "count": "{{ alert.count }}", "back": "{{ alert.back }}/{{ alert.total }}"}
        hook = {"webhook": {"url": target.url, "json": body}}
        outage = {
            "name": "site",
            "trigger": "outage",
            "outage": {"at_least": 3},
            "actions": [hook],
            "on_recovery": [hook],
        }
        running.rules(outage, offline_rule(target.url))
        running.start()
        clients = [f"P@@@{number}" for number in range(4)]
        connect(running, *clients)
        close(running, *clients)

        def told() -> list[dict[str, object]]:
            return [found.body for found in target.first_seen() if found.body["rule"] == "site"]

        (first,) = eventually(told)
        (alert,) = running.items("/v1/alerts", rule="site")
        assert (alert["client"], alert["key"], alert["state"]) == (None, {"group": "P"}, "firing")
        running.kill()
        running.start()
        running.tell(*[event(client, "connect", "2") for client in clients])
        _, last = eventually(told, lambda found: len(found) == 2)
        assert (first["back"], last["back"]) == ("0/3", "4/4")
        (alert,) = running.items("/v1/alerts", rule="site")
        assert alert["state"] == "resolved"


def test_a_group_is_told_once_and_ends_once_also_over_a_restart(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        body = {"phase": "firing", "count": "{{ alert.count }}", "group": "{{ alert.key.group }}"}
        fire, end = (
            {"webhook": {"url": target.url, "json": body | {"phase": phase}}} for phase in ("firing", "recovery")
        )
        grouped = {
            "name": "by-group",
            "trigger": "offline",
            "grouping": {"by": ["group"], "wait": "1s", "interval": "1s"},
            "actions": [fire],
            "on_recovery": [end],
        }
        running.rules(grouped)
        running.start()
        connect(running, "P@@@a", "P@@@b")
        close(running, "P@@@a", "P@@@b")
        (first,) = eventually(target.first_seen)
        assert (first.body["count"], first.body["group"]) == ("2", "P")
        running.kill()
        running.start()
        running.tell(event("P@@@a", "connect", "2"), event("P@@@b", "connect", "2"))
        eventually(
            lambda: [found.body["phase"] for found in target.first_seen()], lambda found: found[-1:] == ["recovery"]
        )
        assert len(target.first_seen()) == 2
