"""A template that would never end, or that grows without end, in the running service: only its own text is lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from threading import Thread

import requests

from tests.acceptance.service import Service, event, eventually, offline_rule, service, sink

NASTY = (
    (
        "{% for i in [-1000000000000]|map(client.device) %}{% endfor %}{% for i in range(1000) %}{% for j in range(1000) %}"
        "{% for k in range(1000) %}{% endfor %}{% endfor %}{% endfor %}"
    ),
    "{{ '%(a(b))1900000000d'|format(**{'a(b)': flaps}) }}",
    "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40 + "{{ a == b }}",
)


def test_one_event_with_templates_that_would_never_end_is_decided_sent_and_the_service_stops(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        json = {"client": "{{ client.id }}", "phase": "firing"} | {
            f"x{index}": text for index, text in enumerate(NASTY)
        }
        rule = offline_rule(target.url)
        rule["actions"] = [{"webhook": {"url": f"{target.url}/x", "json": json}}]
        running.rules(rule)
        running.start()
        running.tell(event("G@@@spend!", "connect", "1"), event("G@@@b", "connect", "1"))
        running.tell(event("G@@@spend!", "tcpclean", "1"))
        running.tell(event("G@@@b", "tcpclean", "1"))
        told = {"G@@@spend!", "G@@@b"}
        eventually(lambda: {client for (client,) in target.told("client")}, lambda found: found == told)
        assert {arrival.body["phase"] for arrival in target.first_seen()} == {
            "firing"
        }  # only the failing texts are lost
        assert running.readiness()[0] == 200
        assert running.terminate() == 0


def suppressing(running: Service, line: str) -> None:
    """Tell an event that is never answered."""
    with suppress(requests.RequestException):
        running.post(line)


def test_a_rendering_that_nothing_can_stop_shows_in_readyz_and_does_not_keep_the_process(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        process = running.start(ROLLCALL_FAULT="stuck:G@@@a", ROLLCALL_STOP_WITHIN="1")
        running.tell(event("G@@@a", "connect", "1"), event("G@@@b", "connect", "1"))
        asking = Thread(target=suppressing, args=(running, event("G@@@a", "tcpclean", "1")))
        asking.start()
        _, why = eventually(running.readiness, lambda found: found[0] == 503)
        assert "a template has been rendering for" in why
        os.kill(running.pid, signal.SIGTERM)
        assert process.wait(60) == 1
        assert running.log_lines("service.stop_forced")
        asking.join()
        running.start()  # nothing of it was committed: it is told again and decided
        running.tell(event("G@@@a", "tcpclean", "1"))
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",)])
