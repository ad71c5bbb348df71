"""The summary of a burst keeps the shape of the action's body, so that its receiver takes it like any other."""

from __future__ import annotations

import json
from typing import Any

from engine.core.alerting.planned_delivery import PHASE_SUMMARY, PlannedDelivery
from engine.core.rules import Action, Rule
from engine.templates import burst_summary
from engine.templates.renderer import Renderer

DETAIL = (
    "gone decided more than 1000 deliveries in a minute: the rest is held, 7 so far. "
    "`rollcall deliveries release` sends what is held, `rollcall deliveries discard` drops it."
)


def summary(kind: str = "webhook", **spec: Any) -> dict[str, Any]:
    """The request of a summary of a rule with this first action."""
    action = Action(kind=kind, spec={"url": "http://pager.test/v2/enqueue", **spec})
    alert = {
        "id": "0123",
        "state": "held",
        "started_at": "2026-01-01T00:00:05.000Z",
        "count": 7,
        "limit": 1_000,
        "detail": "",
    }
    rule = Rule(name="gone", triggers=("offline",), actions=(action,), severity="critical")
    variables = {"client": None, "rule": {"name": "gone", "severity": "critical"}, "alert": alert}
    planned = PlannedDelivery(
        key="k", rule=rule, action=action, phase=PHASE_SUMMARY, client=None, group_key={}, clients=(), alert="0123",
        lane="l", at_ms=5, variables=variables,
    )  # fmt: skip
    rendered = Renderer().planned(burst_summary.for_rendering(planned))
    assert rendered.dead is None and rendered.problem is None
    return rendered.request


PAGER = {
    "routing_key": "R0UT1NG",
    "event_action": "{{ 'resolve' if alert.state == 'resolved' else 'trigger' }}",
    "dedup_key": "{{ client.id }}",
    "payload": {
        "summary": "{{ client.id }} is {{ status }}",
        "source": "{{ client.attributes.site }}",
        "severity": "{{ rule.severity }}",
        "custom_details": {"n": 5, "seen": "{{ evidence|length }}"},
    },
}


def test_a_json_body_keeps_keys_constants_and_types_and_says_what_is_held() -> None:
    assert summary(json=PAGER)["json"] == {
        "routing_key": "R0UT1NG",
        "event_action": "trigger",
        "dedup_key": "gone",
        "payload": {
            "summary": DETAIL,
            "source": "gone",
            "severity": "critical",
            "custom_details": {"n": 5, "seen": DETAIL},
        },
    }


def test_a_body_without_any_text_about_clients_says_it_where_people_look() -> None:
    assert summary(json={"blocks": [{"text": "look", "type": "section"}], "key": "{{ alert.id }}"})["json"] == {
        "blocks": [{"text": DETAIL, "type": "section"}],
        "key": "0123",
    }
    assert summary(json={"a": 1})["json"] == {"a": 1, "text": DETAIL}
    assert summary()["json"] == {"text": DETAIL}


def test_a_body_that_is_one_text_keeps_its_shape() -> None:
    body = (
        '{"routing_key": "R", "dedup_key": "{{ client.id }}-{{ client.attributes.site }}", "event_action": "trigger",'
        ' "payload": {"summary": {{ (client.id ~ " is " ~ status)|tojson }}, "at": "{{ occurred_at }}"}}'
    )
    sent = json.loads(summary(body=body)["body"])
    assert (sent["routing_key"], sent["dedup_key"], sent["event_action"]) == ("R", "gone-", "trigger")
    assert sent["payload"]["summary"].startswith(
        "gone is held: more than 1000 deliveries in a minute: the rest is held"
    )


def test_the_summary_of_a_mail_and_of_a_command_is_its_detail() -> None:
    assert summary("log", message="{{ client.id }}")["message"] == DETAIL
    assert summary("command", to="{{ client.id }}", payload="x")["message"] == DETAIL
