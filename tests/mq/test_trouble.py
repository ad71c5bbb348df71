"""Who is to blame when nothing comes: wrong credentials, a dead broker, a dead name server, a missing library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import ROLLCALL, Service, eventually, free_port, service
from tests.mq.broker import Broker
from tests.mq.broker import running as broker_running

PASSWORD = "correct-horse"
READABLE = "TBW102"  # a topic that every broker has


@pytest.fixture(scope="module")
def guarded(rocketmq: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that wants the user `u` and a password."""
    with broker_running(tmp_path_factory.mktemp("guarded"), PASSWORD) as found:
        yield found


def source(address: str, **more: object) -> dict[str, object]:
    told = {"name": "mq", "type": "rocketmq", "name_servers": [address], "consumer_group": "GID_t"}
    return told | {"topics": [READABLE]} | more


def with_login(address: str) -> dict[str, object]:
    return source(address, access_key={"env": "MQ_USER"}, secret={"env": "MQ_PASSWORD"})


def detail(running: Service) -> str:
    return str(running.get("/v1/sources")["items"][0]["detail"])


def is_connected(running: Service) -> bool:
    return bool(running.get("/v1/sources")["items"][0]["connected"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({}, "username cannot be null"),
        ({"MQ_USER": "u", "MQ_PASSWORD": "wrong"}, "check signature failed"),
        ({"MQ_USER": "nobody", "MQ_PASSWORD": "wrong"}, "not found"),
    ],
)
def test_wrong_credentials_are_called_so_with_the_words_of_the_server(
    tmp_path: Path, guarded: Broker, login: dict[str, str], words: str
) -> None:
    told = with_login(guarded.address) if login else source(guarded.address)
    with service(tmp_path, sources=[told]) as running:
        running.start(ready=True, under=(), **login)
        said = eventually(lambda: detail(running), lambda found: "not answer" in found)
        assert "wrong credentials or no permission" in said and words in said, said
        assert running.readiness()[0] == 503
        assert "wrong" not in running.printed("sources")[0]["position"]
        assert PASSWORD not in running.log_text()


@pytest.mark.long
def test_the_right_credentials_are_let_in(tmp_path: Path, guarded: Broker) -> None:
    with service(tmp_path, sources=[with_login(guarded.address)]) as running:
        running.start(MQ_USER="u", MQ_PASSWORD=PASSWORD)
        eventually(lambda: running.get("/v1/sources")["items"][0]["caught_up_to"])
        assert is_connected(running) and "reading" in detail(running)


def test_a_dead_name_server_is_called_so(tmp_path: Path, rocketmq: None) -> None:
    port = free_port()
    with service(tmp_path, sources=[source(f"127.0.0.1:{port}")]) as running:
        running.start()
        said = eventually(lambda: detail(running), lambda found: "no queue" in found)
        assert f"cannot connect to 127.0.0.1:{port}" in said, said
        assert running.terminate() == 0


def test_a_topic_that_does_not_exist_is_called_so(tmp_path: Path, broker: Broker) -> None:
    with service(tmp_path, sources=[source(broker.address, topics=["NO_SUCH_TOPIC"])]) as running:
        running.start()
        said = eventually(lambda: detail(running), lambda found: "no queue" in found)
        assert "NO_SUCH_TOPIC" in said and "no name server knows the topic" in said, said


# Without the native library


@pytest.fixture
def without_library(tmp_path: Path) -> dict[str, str]:
    """An environment in which the client's package is there and its library is not."""
    package = tmp_path / "shadow" / "rocketmq"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "ffi.py").write_text("raise ImportError('rocketmq dynamic library not found')")
    return {"PYTHONPATH": str(package.parent)}


def written(folder: Path, **config: Any) -> Path:
    (folder / "rules").mkdir(exist_ok=True)
    told = {"version": 1, "http": None, "rules": "rules/", "sources": [source("127.0.0.1:9")]}
    (folder / "config.yaml").write_text(json.dumps(told | config))
    return folder


def rollcall(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROLLCALL, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )


def test_check_finds_the_missing_library_before_run_does(tmp_path: Path, without_library: dict[str, str]) -> None:
    folder = written(tmp_path)
    checked = rollcall(folder, "check", **without_library)
    assert checked.returncode == 1
    assert "sources[0].type: the native RocketMQ library does not load: run `make rocketmq-native`" in checked.stdout
    ran = rollcall(folder, "run", **without_library)
    assert ran.returncode != 0 and "make rocketmq-native" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"topics": None}, "needs `mqtt_groups` or `topics`"),
        ({"name_servers": None}, "needs either `name_servers` or `name_server_domain`"),
        ({"name_servers": ["http://x"]}, "must be HOST:PORT"),
        ({"access_key": {"env": "A"}}, "`access_key` and `secret` belong together"),
        ({"secret": "hunter2"}, "must say where the secret is"),
        ({"topic": "x"}, "unknown key `topic`; write `topics`, a list"),
        ({"start": "yesterday"}, "must be latest, earliest, or a time"),
        ({"start": "2026-01-01T00:00:00"}, "has no time zone"),
        ({"start": "2026-13-01T00:00:00Z"}, "is not a time such as"),
        ({"consumer_group": "a b"}, "must consist of letters"),
    ],
)
def test_mistakes_in_the_configuration_are_told_with_what_to_write(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    told = {key: value for key, value in (source("127.0.0.1:9") | change).items() if value is not None}
    checked = rollcall(written(tmp_path, sources=[told]), "check")
    assert checked.returncode == 1 and words in checked.stdout, checked.stdout


def test_two_sources_of_different_clusters_are_refused_because_the_client_would_mix_them_up(tmp_path: Path) -> None:
    other = source("127.0.0.1:10", name="other", consumer_group="GID_u")
    checked = rollcall(written(tmp_path, sources=[source("127.0.0.1:9"), other]), "check")
    assert checked.returncode == 1 and "one engine reads one RocketMQ cluster" in checked.stdout
    twice = source("127.0.0.1:9", name="other", topics=["T"])
    checked = rollcall(written(tmp_path, sources=[source("127.0.0.1:9"), twice]), "check")
    assert checked.returncode == 1 and "another source uses the group" in checked.stdout


def test_installing_the_library_again_changes_nothing(rocketmq: None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine.sources.rocketmq.native"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and "is already installed and loads" in done.stdout
