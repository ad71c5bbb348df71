"""The numbers of `/metrics`: read when asked, nothing is done for them per event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine.web.service import Service


def exposition(service: Service) -> bytes:
    """All metrics as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(service))
    return generate_latest(registry)


class _Metrics:
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Any]:
        """Every metric family."""
        service = self._service
        for name, value in service.counters().items():
            yield CounterMetricFamily(f"rollcall_{name}", f"{name.replace('_', ' ')} since the start", value=value)
        yield GaugeMetricFamily("rollcall_clients", "clients known", value=len(service.fleet.states))
        yield from self._sources()
        broken = float(service.rules_problem is not None)
        yield GaugeMetricFamily("rollcall_rules_broken", "edited rules do not load", value=broken)

    def _sources(self) -> Iterator[Any]:
        now_ms = self._service.now_ms()
        lag = GaugeMetricFamily("rollcall_source_behind_seconds", "seconds not caught up", labels=["source"])
        up = GaugeMetricFamily("rollcall_source_connected", "is the source connected", labels=["source"])
        waiting = GaugeMetricFamily("rollcall_source_lag", "messages or bytes not yet read", labels=["source"])
        part = ["source", "queue"]
        queue_waiting = GaugeMetricFamily("rollcall_queue_lag", "messages not yet read", labels=part)
        queue_lag = GaugeMetricFamily("rollcall_queue_behind_seconds", "seconds not caught up", labels=part)
        queue_up = GaugeMetricFamily("rollcall_queue_connected", "does the queue answer", labels=part)
        for health in self._service.healths():
            up.add_metric([health.name], float(health.connected))
            if health.lag is not None:
                waiting.add_metric([health.name], health.lag)
            for queue in health.parts:
                queue_up.add_metric([health.name, queue.name], float(queue.connected))
                if queue.lag is not None:
                    queue_waiting.add_metric([health.name, queue.name], queue.lag)
                if queue.caught_up_to_ms:
                    behind_s = max(0, now_ms - queue.caught_up_to_ms) / 1000
                    queue_lag.add_metric([health.name, queue.name], behind_s)
            if health.caught_up_to_ms:
                lag.add_metric([health.name], max(0, now_ms - health.caught_up_to_ms) / 1000)
        yield from (up, lag, waiting, queue_up, queue_lag, queue_waiting)
