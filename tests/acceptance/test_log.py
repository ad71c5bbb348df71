"""The log of a service from its start to its stop: what an operator finds there, in both formats."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.service import event, eventually, service

SAYS = {"name": "dark", "trigger": "offline", "actions": [{"log": {"message": "{{ client.device }} is dark"}}]}


def test_a_start_and_a_stop_are_logged_with_their_facts(tmp_path: Path) -> None:
    sources = [{"name": "push", "type": "http"}, {"name": "sim", "type": "simulator", "clients": 3}]
    with service(tmp_path, sources=sources) as running:
        running.rules(SAYS)
        running.start()
        assert running.terminate() == 0
        (listening,) = running.log_lines("http.listening")
        assert listening["address"] == running.url
        (recovered,) = running.log_lines("service.recovered")
        assert recovered["clients"] == 0
        (ready,) = running.log_lines("service.ready")
        assert ready["rules"] == 1 and ready["level"] == "info"
        (synthetic,) = running.log_lines("source.synthetic")
        assert (synthetic["source"], synthetic["level"]) == ("sim", "warning")
        assert len(running.log_lines("service.stopping")) == len(running.log_lines("service.stopped")) == 1


def test_the_message_of_a_rule_is_logged_with_its_rule(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules(SAYS)
        running.start()
        running.tell(event("G@@@pump", "connect", "c"))
        running.tell(event("G@@@pump", "tcpclean", "c"))
        (line,) = eventually(lambda: running.log_lines("action.log"))
        assert (line["rule"], line["phase"], line["message"]) == ("dark", "firing", "pump is dark")


def test_a_webhook_that_is_refused_for_good_is_logged(tmp_path: Path) -> None:
    """Through the sending process, with the reason, and without what a template cannot be made of."""
    with service(tmp_path, network={"deny": ["127.0.0.0/8"]}) as running:
        url = "http://127.0.0.1:9/"
        running.rules({"name": "dark", "trigger": "offline", "actions": [{"webhook": {"url": url, "json": {}}}]})
        running.start()
        running.tell(event("G@@@pump", "connect", "c"))
        running.tell(event("G@@@pump", "tcpclean", "c"))
        (line,) = eventually(lambda: running.log_lines("delivery.dead"))
        assert (line["rule"], line["client"], line["attempts"]) == ("dark", "G@@@pump", 1)
        assert (line["target"], line["error"]) == ("http://127.0.0.1:9", "127.0.0.1 is denied by network.deny")
