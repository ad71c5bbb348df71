"""The metrics of `/metrics`, read when they are scraped: no work is done for them per event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine.sources.base import QueueHealth, SourceHealth
from engine.web.serializers import seconds_since
from engine.web.service import QueryNumbers, Service

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
"""Of `exposition`: Prometheus reads the version; the charset, UTF-8, is added when it is sent."""

MAX_PAUSES: Final = 100
"""Paused targets with a metric of their own, those first that are paused for longest."""


def exposition(service: Service, refused: Mapping[str, int]) -> bytes:
    """All metrics in the format of Prometheus. `refused`: HTTP requests and connections, by the reason."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(service, refused))
    return generate_latest(registry)


class _Metrics:
    def __init__(self, service: Service, refused: Mapping[str, int]) -> None:
        self._service, self._refused = service, refused

    def collect(self) -> Iterator[Any]:
        """Every metric family."""
        service = self._service
        for name, value in service.counters().items():
            yield CounterMetricFamily(
                f"rollcall_{name}", f"{name.replace('_', ' ')} since the process started", value=value
            )
        yield GaugeMetricFamily(
            "rollcall_clients",
            "clients that the engine keeps a state for",
            value=sum(len(fleet.states) for fleet in service.fleets),
        )
        yield GaugeMetricFamily("rollcall_silences", "active silences", value=service.silences_active())
        suppressed = CounterMetricFamily(
            "rollcall_alerts_suppressed", "alerts suppressed since the process started, by reason", labels=["reason"]
        )
        for reason, count in service.suppressed().items():
            suppressed.add_metric([reason], count)
        yield suppressed
        refused = CounterMetricFamily(
            "rollcall_http_refused",
            "HTTP requests and connections refused since the process started, by reason",
            labels=["reason"],
        )
        for reason, count in sorted(dict(self._refused).items()):
            refused.add_metric([reason], count)
        yield refused
        yield from self._sources()
        if service.queries is not None:
            yield from _queries(service.queries.numbers())
        edits = service.refused_edits
        for metric, name, text in (
            ("rules", "rules", "edited rules do not load and the previous rules are in force"),
            ("inventory", "inventory", "the edited inventory does not load and the previous one is in force"),
            ("config", "configuration", "the edited configuration does not load (SIGHUP) and nothing was changed"),
        ):
            yield GaugeMetricFamily(f"rollcall_{metric}_broken", f"1 while {text}", value=float(name in edits))

        yield from self._parts()
        yield from self._pauses()
        yield from self._cells()

    def _cells(self) -> Iterator[Any]:
        """None with the embedded store."""
        cells = self._service.cell_states()
        if not cells:
            return
        owner = GaugeMetricFamily("rollcall_cell_owner", "1 while this replica owns the cell, else 0", labels=["cell"])
        epoch = GaugeMetricFamily(
            "rollcall_cell_epoch", "how often the cell was taken; 0: this replica is not its owner", labels=["cell"]
        )
        lag = GaugeMetricFamily(
            "rollcall_cell_lag_seconds",
            "for how long this replica has not seen the end of the journal",
            labels=["cell"],
        )
        fenced = CounterMetricFamily(
            "rollcall_cell_fenced_commits",
            "transactions that were stopped because another replica owned the cell, since the process started",
            labels=["cell"],
        )
        for cell in cells:
            owner.add_metric([cell.name], float(cell.standing == "owner"))
            epoch.add_metric([cell.name], cell.epoch)
            lag.add_metric([cell.name], cell.lag_s)
            fenced.add_metric([cell.name], cell.fenced)
        yield from (owner, epoch, lag, fenced)

    def _parts(self) -> Iterator[Any]:
        works = GaugeMetricFamily(
            "rollcall_part_working", "1 while the part of the service works, else 0", labels=["part"]
        )
        restarts = CounterMetricFamily(
            "rollcall_part_restarts", "restarts of a part since the process started", labels=["part"]
        )
        for part in self._service.parts():
            works.add_metric([part.name], float(part.reason is None))
            restarts.add_metric([part.name], part.restarts)
        yield from (works, restarts)

    def _pauses(self) -> Iterator[Any]:
        pauses, now_ms = list(self._service.pauses().values()), self._service.now_ms()
        yield GaugeMetricFamily(
            "rollcall_targets_paused", "targets of deliveries whose circuit breaker is open", value=len(pauses)
        )
        tried = GaugeMetricFamily(
            "rollcall_target_next_try_seconds",
            f"seconds until a paused target is tried again; of at most {MAX_PAUSES} targets",
            labels=["target"],
        )
        for pause in sorted(pauses, key=lambda pause: pause.since_ms)[:MAX_PAUSES]:
            tried.add_metric([pause.target], max(0, pause.next_try_ms - now_ms) / 1000)
        yield tried
        attempts = CounterMetricFamily(
            "rollcall_receiver_attempts",
            "attempts at receivers since the process started, by receiver and outcome",
            labels=["receiver", "outcome"],
        )
        for (receiver, outcome), count in sorted(self._service.receiver_attempts().items()):
            attempts.add_metric([receiver, outcome], count)
        yield attempts

    def _sources(self) -> Iterator[Any]:
        healths, now_ms = self._service.healths(), self._service.now_ms()
        gaps = self._service.gaps_found()
        found = CounterMetricFamily("rollcall_source_gaps", "gaps found since the process started", labels=["source"])
        trouble = GaugeMetricFamily(
            "rollcall_source_trouble",
            "1 while the source is unhealthy: disconnected, behind, without events, or with a gap",
            labels=["source"],
        )
        lag = GaugeMetricFamily(
            "rollcall_source_lag", "what is not yet read and committed, in `unit`", labels=["source", "unit"]
        )
        for health in healths:
            found.add_metric([health.name], gaps.get(health.name, 0))
            trouble.add_metric([health.name], float(health.trouble is not None))
            if health.lag is not None:
                lag.add_metric([health.name, health.lag_unit], health.lag)
        yield from (found, trouble, lag)
        yield from _conditions("rollcall_source", ["source"], [((health.name,), health) for health in healths], now_ms)
        queues = [((health.name, queue.name), queue) for health in healths for queue in health.queues]
        yield from _conditions("rollcall_queue", ["source", "queue"], queues, now_ms)
        held = GaugeMetricFamily(
            "rollcall_queue_lag", "messages not yet read and committed", labels=["source", "queue"]
        )
        for labels, queue in queues:
            if queue.lag is not None:
                held.add_metric(labels, queue.lag)
        yield held


def _queries(numbers: QueryNumbers) -> Iterator[Any]:
    """Metrics of the synchronous query and of sweeps."""
    for name, text, value in (
        ("status_calls", "calls to the status provider", numbers.calls),
        ("status_throttled", "calls that the status provider throttled", numbers.throttled),
        ("status_call_failures", "calls to the status provider that failed", numbers.failures),
        ("stale_answers", "answers ignored because a newer event had arrived", numbers.stale),
        ("corrections", "client statuses corrected by an answer", numbers.corrections),
        ("false_alarms_avoided", "alerts suppressed because an answer contradicted them", numbers.avoided),
        ("sweeps", "sweeps finished", numbers.sweeps),
    ):
        yield CounterMetricFamily(f"rollcall_{name}", f"{text} since the process started", value=value)
    answers = CounterMetricFamily(
        "rollcall_status_answers", "answers of the status provider, by outcome", labels=["outcome"]
    )
    for name, value in numbers.outcomes.items():
        answers.add_metric([name], value)
    verdicts = CounterMetricFamily(
        "rollcall_status_verdicts", "what answers meant for the status, by verdict", labels=["verdict"]
    )
    for name, value in numbers.verdicts.items():
        verdicts.add_metric([name], value)
    yield from (answers, verdicts)
    yield GaugeMetricFamily("rollcall_status_waiting", "clients waiting to be queried", value=numbers.waiting)
    failing = float(numbers.trouble is not None)
    yield GaugeMetricFamily(
        "rollcall_status_failing", "1 while status queries fail and only probes are sent", value=failing
    )
    yield GaugeMetricFamily("rollcall_sweep_clients", "clients of the running sweep", value=numbers.sweep_total)
    yield GaugeMetricFamily(
        "rollcall_sweep_asked", "clients of the running sweep with a final answer", value=numbers.sweep_asked
    )


def _conditions(
    prefix: str, labels: list[str], found: Sequence[tuple[tuple[str, ...], SourceHealth | QueueHealth]], now_ms: int
) -> Iterator[Any]:
    """Metrics that sources and their queues have in common. A value that is not known has no sample."""
    up = GaugeMetricFamily(f"{prefix}_connected", "1 while connected, else 0", labels=labels)
    behind = GaugeMetricFamily(
        f"{prefix}_behind_seconds", "seconds from the instant up to which everything was read until now", labels=labels
    )
    age = GaugeMetricFamily(f"{prefix}_last_event_age_seconds", "seconds since the last event", labels=labels)
    for values, health in found:
        up.add_metric(values, float(health.connected))
        for family, instant_ms in ((behind, health.caught_up_to_ms), (age, health.last_event_at_ms)):
            seconds = seconds_since(instant_ms, now_ms)
            if seconds is not None:
                family.add_metric(values, seconds)
    yield from (up, behind, age)
