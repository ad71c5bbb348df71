"""The service on a real broker: kills of either side lose nothing, and what is wrong is said where people look."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.load import Chain, journal_lines
from tests.acceptance.service import Service, Sink, event, eventually, free_port, service, sink, webhook
from tests.amqp.broker import SECRETS, Broker, broker, source

KILLS = 6


class Publisher:
    """A fleet that keeps changing, published from a thread; what the broker did not confirm is published again."""

    def __init__(self, to: Broker, seed: int, clients: int = 40) -> None:
        self.lines: list[str] = []
        self._broker = to
        self._dice = random.Random(seed)
        self._chains = [Chain(f"G@@@d{number}") for number in range(clients)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        while not self._stopped.wait(0.02):
            some = [chain.next() for chain in self._dice.choices(self._chains, k=30)]
            while not self._stopped.is_set():
                try:
                    self._broker.publish(some)
                    break
                except Exception:  # noqa: BLE001  # the broker is down, or went down with them: nobody knows
                    self._stopped.wait(0.1)
            self.lines += some

    def stop(self) -> None:
        """Publish no more."""
        self._stopped.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def statuses(self) -> dict[str, str]:
        """How every client must end."""
        return {chain.client: chain.status for chain in self._chains if chain.count}


def engine(folder: Path, port: int, **more: Any) -> Any:
    return service(folder, sources=[source(port)], **more)


def phases(target: Sink) -> list[str]:
    return [arrival.body["phase"] for arrival in target.first_seen()]


def start(running: Service, **more: str) -> None:
    running.start(ready=False, **(SECRETS | more))
    eventually(lambda: running.readiness()[0] == 200)


@pytest.mark.timeout(600)
def test_kills_of_the_engine_lose_nothing_and_repetitions_are_harmless(shared_broker: Broker, tmp_path: Path) -> None:
    dice = random.Random(20260101)
    with engine(tmp_path, shared_broker.port) as running:
        load = Publisher(shared_broker, 1)
        for kill in range(KILLS):
            running.start(ready=False, **SECRETS)
            if kill % 2:
                eventually(lambda: running.readiness()[0] == 200)
            threading.Event().wait(dice.uniform(0.0, 1.0))  # the moment of the kill, which nothing depends on
            running.kill()
        start(running)
        load.stop()
        eventually(running.statuses, lambda found: found == load.statuses)
        eventually(shared_broker.messages, lambda left: left == 0)
        assert set(journal_lines(tmp_path, "cloud")) == set(load.lines)
        assert running.terminate() == 0
        assert shared_broker.messages() == 0, "what was committed is acknowledged before it stops"
    assert "Traceback" not in running.log_text()


@pytest.mark.timeout(600)
def test_a_broker_that_dies_and_returns_loses_nothing_and_is_told_as_a_dead_feed(tmp_path: Path) -> None:
    with broker(tmp_path / "node") as node, sink() as target, engine(tmp_path, node.port) as running:
        rule = {"name": "feed", "trigger": "feed", "actions": [webhook(target.url, "firing", "feed")]}
        running.rules(rule | {"on_recovery": [webhook(target.url, "recovery", "feed")]})
        start(running)
        load = Publisher(node, 2)
        eventually(lambda: running.metric("rollcall_events"), lambda count: count > 100)
        node.kill()
        _, text = eventually(running.readiness, lambda found: found[0] == 503)
        assert "source cloud" in text
        eventually(lambda: "cannot be reached" in running.readiness()[1])
        eventually(lambda: phases(target), lambda found: found == ["firing"])
        node.start()
        eventually(lambda: running.readiness()[0] == 200)
        eventually(lambda: phases(target), lambda found: found == ["firing", "recovery"])
        load.stop()
        eventually(running.statuses, lambda found: found == load.statuses)
        eventually(node.messages, lambda left: left == 0)
        assert set(journal_lines(tmp_path, "cloud")) >= set(load.lines)
        assert len(set(node.logins.signed)) >= 2
        told = target.told("phase", "source")
        assert told == [("firing", "cloud"), ("recovery", "cloud")]
    assert "Traceback" not in running.log_text()


def test_wrong_credentials_are_told_where_people_look(shared_broker: Broker, tmp_path: Path) -> None:
    with engine(tmp_path, shared_broker.port) as running:
        running.start(ready=False, **(SECRETS | {"TEST_SECRET": "not-the-secret-7d1"}))
        eventually(lambda: "refuses the login: wrong access key" in running.readiness()[1])
        eventually(lambda: any("refuses the login" in line["trouble"] for line in running.log_lines("feed.trouble")))
        (found,) = running.printed("sources")
        assert found["connected"] is False and "wrong access key" in found["detail"]
        assert "not-the-secret" not in running.log_text()
        assert running.terminate() == 0


def test_what_is_no_event_is_quarantined_and_leaves_the_queue(shared_broker: Broker, tmp_path: Path) -> None:
    with engine(tmp_path, shared_broker.port) as running:
        start(running)
        good = event("G@@@d", "connect", "c")
        shared_broker.publish([good, "nonsense", "", good])
        eventually(lambda: running.metric("rollcall_rejected") == 2 and running.metric("rollcall_events") == 2)
        rows = running.printed("quarantine", "list")
        assert sorted(row["raw"] for row in rows) == ["", "nonsense"]
        assert {row["source"] for row in rows} == {"cloud"}
        eventually(shared_broker.messages, lambda left: left == 0)
        assert running.terminate() == 0


# Without a broker


def without_the_package(folder: Path) -> dict[str, str]:
    """An environment in which the library cannot be found."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text("import sys\nsys.modules['aiormq'] = None\n")
    return {"PYTHONPATH": str(folder / "hidden")}


def test_a_missing_package_is_found_by_check_and_by_run_and_others_do_not_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(tmp_path, free_port()) as running:
        for name, value in (SECRETS | without_the_package(tmp_path)).items():
            monkeypatch.setenv(name, value)
        for command in ("check", "run"):
            done = running.process_of(command)
            assert done.returncode == 1
            assert (
                "sources[0].type: needs the package aiormq: pip install 'rollcall-presence[amqp]'"
                in done.stdout + done.stderr
            )
        (tmp_path / "events.jsonl").write_text(event("G@@@d", "connect", "c") + "\n")
        assert running.process_of("replay", "events.jsonl").returncode == 0
        monkeypatch.delenv("PYTHONPATH")
        assert running.command("check").returncode == 0


def test_a_secret_that_is_not_there_is_a_warning_at_its_place(tmp_path: Path) -> None:
    with engine(tmp_path, free_port()) as running:
        done = running.command("check")
        assert done.returncode == 0
        assert "sources[0].secret: warning: the environment variable TEST_SECRET is not set" in done.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"endpoint": "http://broker"}, "is not HOST or HOST:PORT"),
        ({"endpoint": "broker:99999"}, "is not HOST or HOST:PORT"),
        ({"tls": "yes"}, "must be true, false, or {ca: PATH}"),
        ({"group_id": "GID"}, "write `consumer_group`"),
        ({"password": "p"}, "the login is signed: write `access_key` and `secret`"),
        ({"secret": "plain"}, "never write the secret itself into this file"),
        ({"que": "X"}, "did you mean `queue`?"),
    ],
)
def test_mistakes_in_the_configuration_are_told_with_what_to_write(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with service(tmp_path, sources=[source(1, **more)]) as running:
        done = running.command("check")
        assert done.returncode == 1
        assert words in done.stdout
