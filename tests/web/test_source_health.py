"""How sources and their queues are shown: objects and metrics from what sources say of themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from engine.sources.base import Gap, QueueHealth, SourceHealth
from engine.stores.base import SourceRow
from engine.web import serializers
from engine.web.metrics import exposition

NOW = 1_767_225_600_000

QUEUES = (
    QueueHealth(
        name="a/0", connected=True, detail="reading", caught_up_to_ms=NOW - 2_500, last_event_at_ms=NOW - 3_000, lag=7
    ),
    QueueHealth(name="a/1", connected=False, detail="no answer", caught_up_to_ms=None, last_event_at_ms=None),
)
BROKER = SourceHealth(
    name="broker",
    type="rocketmq",
    connected=True,
    detail="reading",
    caught_up_to_ms=NOW - 4_000,
    last_event_at_ms=NOW - 1_000,
    lag=9,
    queues=QUEUES,
    trouble="gap: the log was reset",
)
NEW = SourceHealth(
    name="new", type="file", connected=False, detail="waiting", caught_up_to_ms=None, last_event_at_ms=None
)


def metrics(*healths: SourceHealth) -> dict[tuple[str, ...], float]:
    """Every sample about sources: (name, label values…) -> value."""
    service: Any = SimpleNamespace(
        queries=None,
        counters=dict, fleets=[SimpleNamespace(states={})], healths=lambda: list(healths), now_ms=lambda: NOW,
        suppressed=dict, silences_active=lambda: 0, receiver_attempts=dict, gaps_found=lambda: {"broker": 2}, rules_problem=None, refused_edits={},
        parts=list, pauses=dict, cell_states=list,
    )  # fmt: skip
    text = exposition(service, {}).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    named = ("source", "queue", "unit")
    return {
        (
            found.name.removeprefix("rollcall_"),
            *(found.labels[label] for label in named if label in found.labels),
        ): found.value
        for found in samples
        if found.labels
    }


def test_a_source_and_its_queues_have_a_number_each_for_what_is_known() -> None:
    assert metrics(BROKER) == {
        ("source_connected", "broker"): 1,
        ("source_behind_seconds", "broker"): 4,
        ("source_last_event_age_seconds", "broker"): 1,
        ("source_lag", "broker", "messages"): 9,
        ("source_gaps_total", "broker"): 2,
        ("source_trouble", "broker"): 1,
        ("queue_connected", "broker", "a/0"): 1,
        ("queue_behind_seconds", "broker", "a/0"): 2.5,
        ("queue_last_event_age_seconds", "broker", "a/0"): 3,
        ("queue_lag", "broker", "a/0"): 7,
        ("queue_connected", "broker", "a/1"): 0,
    }


def test_what_is_not_known_has_no_number() -> None:
    assert metrics(NEW) == {
        ("source_connected", "new"): 0,
        ("source_gaps_total", "new"): 0,
        ("source_trouble", "new"): 0,
    }


def test_a_source_is_shown_with_its_queues_its_trouble_and_how_far_it_is_behind() -> None:
    gap = Gap(source="broker", noted_at_ms=NOW, from_ms=None, to_ms=NOW, reason="the log was reset")
    found = serializers.source_object(BROKER, SourceRow(position="17"), [gap], NOW)
    assert (found["behind"], found["lag"], found["lag_unit"], found["trouble"]) == (
        4,
        9,
        "messages",
        "gap: the log was reset",
    )
    assert (found["position"], [entry["reason"] for entry in found["gaps"]]) == ("17", ["the log was reset"])
    assert [(queue["name"], queue["connected"], queue["behind"], queue["lag"]) for queue in found["queues"]] == [
        ("a/0", True, 2.5, 7),
        ("a/1", False, None, None),
    ]


def test_the_newest_event_before_a_restart_is_shown_until_one_comes() -> None:
    found = serializers.source_object(NEW, SourceRow(last_event_at_ms=NOW - 60_000), [], NOW)
    assert found["last_event_at"] == "2025-12-31T23:59:00.000Z"
    assert found["behind"] is None
