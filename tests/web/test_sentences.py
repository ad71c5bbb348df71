"""The sentences of `why-not` and of the stages that a delivery passed: every stage has one, and each can be formed."""

from __future__ import annotations

import pytest

from engine.core.alerting.explain import WAY
from engine.core.alerting.stages.base import StageReport
from engine.stores.base import DeliveryRow
from engine.web.explain_delivery import PASSED, stages
from engine.web.why_not import SENTENCES, explanation, sentence


def test_every_stage_of_the_core_has_a_sentence() -> None:
    assert set(SENTENCES) == set(PASSED) == set(WAY)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            StageReport("rule", True, {"name": "r", "shadow": True, "is_removed": False}),
            "the rule r is loaded; it is a shadow rule: its deliveries are recorded and never sent",
        ),
        (
            StageReport("rule", False, {"name": "r", "shadow": False, "is_removed": True}),
            "the rule r was removed from the rule files: it only ends the alerts that it opened",
        ),
        (StageReport("for", False, {"for_ms": 300_000, "since_ms": 1, "has_begun": True}), "`for: 5m` is not over yet"),
        (
            StageReport("for", False, {"for_ms": 300_000, "since_ms": 1, "has_begun": False}),
            "`for: 5m` begins when the trigger happens",
        ),
        (
            StageReport("inhibited", False, {"rule": "site", "key": '{"group": "G"}', "down": 3, "total": 4}),
            "inhibited by the outage of site at group G: 3 of 4 clients are offline",
        ),
        (
            StageReport("inhibited", False, {"rule": "gw", "client": "G@@@g1", "equal": {"site": "north"}}),
            "inhibited: gw is firing for G@@@g1, which has the same site (north)",
        ),
        (
            StageReport("inhibited", False, {"rule": "half", "key": '{"site": "n"}', "quorum": 2, "total": 4}),
            "inhibited by half, which fires for site n: 2 of 4 clients are offline",
        ),
        (
            StageReport(
                "trigger", False, {"triggers": ["undelivered"], "is_known": True, "status": "online", "rule": "lost"}
            ),
            "an alert of the trigger undelivered is about no single client: `rollcall alerts list --rule lost` shows whether there is one",
        ),
        (
            StageReport(
                "trigger",
                True,
                {
                    "triggers": ["outage"],
                    "is_known": True,
                    "outage_key": '{"site": "n"}',
                    "down": 9,
                    "total": 12,
                    "is_member": True,
                },
            ),
            "there is an outage of site n: 9 of 12 clients are offline, this one among them",
        ),
        (
            StageReport(
                "trigger",
                False,
                {
                    "triggers": ["outage"],
                    "is_known": True,
                    "outage_key": '{"site": "n"}',
                    "down": 1,
                    "total": 12,
                    "at_least": 5,
                    "percent": 10,
                    "within_ms": 60_000,
                },
            ),
            "of site n 1 of 12 clients are offline; the trigger outage needs 5 that go offline within 1m and 10 % of those that are online or went with them",
        ),
        (
            StageReport(
                "trigger",
                False,
                {
                    "triggers": ["quorum"],
                    "is_known": True,
                    "quorum_key": '{"site": "n"}',
                    "down": 1,
                    "total": 4,
                    "needed": 2,
                },
            ),
            "of site n 1 of 4 clients are offline; the trigger quorum needs 2",
        ),
        (StageReport("inhibited", False, {"rule": "twice"}), "inhibited: an alert of twice is firing for the client"),
        (
            StageReport("inhibited", True, {"inhibited_by": ["a", "b"]}),
            "not inhibited (an alert of a, b or an outage would inhibit it)",
        ),
        (
            StageReport("verify", False, {"verified": "contradicted"}),
            "suppressed by verification: the broker contradicted the status: a false alarm was avoided",
        ),
        (
            StageReport("grouping", False, {"key": '{"group": "G"}', "notified": False}),
            "it waits for the notification of its group group G",
        ),
    ],
)
def test_a_stage_reports_in_a_sentence(report: StageReport, words: str) -> None:
    assert sentence(report) == words


def test_the_first_stage_that_does_not_pass_is_the_one_that_stops_it() -> None:
    gates = [
        StageReport("match", True, {"client": "c", "ip": ""}),
        StageReport("mute", False, {}, 1_000),
        StageReport("silence", False, {"id": "s", "author": "Zoë", "comment": "why"}),
    ]
    found = explanation("r", "c", gates, 0)
    assert (found["stopped_by"], found["gates"][1]["until"]) == ("mute", "1970-01-01T00:00:01.000Z")
    assert explanation("r", "c", gates[:1], 0)["stopped_by"] is None


def test_a_mistyped_id_that_the_match_does_not_include_has_a_suggestion_too() -> None:
    gates = [
        StageReport("match", False, {"client": "G@@p1", "ip": ""}),
        StageReport("trigger", False, {"triggers": ["offline"], "is_known": False}),
    ]
    found = explanation("r", "G@@p1", gates, 0, lambda: "G@@@p1")
    assert found["stopped_by"] == "match"
    assert found["why"] == "its match does not include G@@p1, and no event has ever named it; did you mean G@@@p1?"


def row(**changes: object) -> DeliveryRow:
    """A firing that was delivered."""
    fields: dict[str, object] = {
        "id": 1, "key": "k", "rule": "r", "client": "c", "group_key": None, "clients": None, "alert": "a", "action": "log",
        "target": "log", "state": "delivered", "attempts": 1, "due_at_ms": 0, "last_error": None, "lane": "l",
        "phase": "firing", "decided_at_ms": 0, "request": {},
    }  # fmt: skip
    return DeliveryRow(**{**fields, **changes})  # type: ignore[arg-type]


FULL = (
    '{"name":"r","trigger":"offline","match":{"group":"G"},"for":"5m","condition":"not graceful","active":[{"days":"mon"}],'
    '"mute":[{"days":"sun"}],"inhibited_by":"x","throttle":{"max":1,"per":"1m"},"verify":true,"grouping":{},"repeat":"1h"}'
)


@pytest.mark.parametrize(
    ("definition", "changes", "gates"),
    [
        ('{"trigger":"offline"}', {}, ["trigger", "flapping", "silence", "inhibited"]),
        ('{"trigger":"offline"}', {"client": None}, ["trigger", "flapping", "silence", "inhibited", "grouping"]),
        ('{"trigger":"feed"}', {"client": None}, ["trigger", "silence", "inhibited"]),
        (
            FULL,
            {"phase": "reminder", "state": "held"},
            ["match", "trigger", "for", "condition", "flapping", "mute", "mute", "silence", "inhibited", "throttle", "verify",
             "grouping", "repeat", "burst"],
        ),
        (FULL, {"phase": "recovery"}, ["alert"]),
        ('{"trigger":"offline","shadow":true}', {"phase": "recovery"}, ["alert", "shadow"]),
        ('{"trigger":"offline","escalate":[{"after":"15m"}]}', {"phase": "escalation"},
         ["trigger", "flapping", "silence", "inhibited", "escalate"]),
        (FULL, {"phase": "acknowledged"}, ["alert"]),
        (FULL, {"phase": "summary"}, ["burst"]),
        (None, {}, []),
    ],
)  # fmt: skip
def test_a_delivery_names_the_stages_that_its_rule_had(
    definition: str | None, changes: dict[str, object], gates: list[str]
) -> None:
    assert [found["gate"] for found in stages(definition, row(**changes))] == gates
