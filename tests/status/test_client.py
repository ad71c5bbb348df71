"""`StatusClient`, as a business process meets it: the broker's stand-in, a running service, and either of them gone."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import OnlineStatus, StatusClient
from engine.status.shared_breaker import LIMITS
from tests.acceptance.service import Service, event, eventually, free_port, service
from tests.status.standin import SECRET, StandIn
from tests.status.standin_server import Reply

UP, DOWN, NEW = "GID_P@@@up/1?%", "GID_P@@@down", "GID_P@@@never"


@pytest.fixture(scope="module")
def believing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that believes UP online and DOWN offline, and never heard of NEW."""
    with service(tmp_path_factory.mktemp("service")) as made:
        made.start()
        made.tell(event(UP, "connect", "A"), event(DOWN, "connect", "B"), event(DOWN, "tcpclean", "B"))
        eventually(made.statuses, lambda seen: seen == {UP: "online", DOWN: "offline"})
        yield made


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


def client(standin: StandIn | None = None, believing: Service | None = None, **other: Any) -> StatusClient:
    told: dict[str, Any] = {"timeout_s": 30.0} | (standin.keys if standin is not None else {})
    if believing is not None:
        told["service"] = believing.url
    return StatusClient(**(told | other))


def test_the_broker_is_queried_first(standin: StandIn, believing: Service) -> None:
    standin.truth[DOWN] = 2
    with client(standin, believing) as asking:
        found = asking.online(DOWN)
    assert found and (found.online, found.connections, found.source, found.problem) == (True, 2, "query", None)
    assert found.asked_at is not None and abs(datetime.now(UTC) - found.asked_at) < timedelta(minutes=5)
    assert found.age is not None and found.age >= 0


def test_offline_and_unknown_are_both_not_true(standin: StandIn) -> None:
    standin.truth[NEW] = -1
    with client(standin) as asking:
        offline, unknown = asking.online(UP), asking.online(NEW)
    assert (offline.online, bool(offline)) == (False, False)
    assert (unknown.online, bool(unknown), unknown.source) == (None, False, "query")
    assert unknown.problem == "the broker answered that it does not know"


@pytest.mark.parametrize(("who", "online"), [(UP, True), (DOWN, False)])
@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("unknown", "does not know"),
        ("error", "HTTP status 503"),
        ("throttled", "limited the rate"),
        ("html", "a web page"),
    ],
)
def test_the_belief_stands_in_for_an_answer(
    standin: StandIn, believing: Service, who: str, online: bool, said: str, problem: str
) -> None:
    standin.script.append(said)
    with client(standin, believing) as asking:
        found = asking.online(who)
    assert (found.online, found.source, found.connections, found.asked_at) == (online, "belief", None, None)
    assert found.age is not None and found.age >= 0
    assert found.problem is not None and problem in found.problem


def test_a_service_alone_will_do(believing: Service) -> None:
    with client(believing=believing) as asking:
        assert [asking.online(who).online for who in (UP, DOWN)] == [True, False]
        assert asking.online(UP).problem is None
        stranger = asking.online(NEW)
    assert stranger.online is None and "does not know this client" in (stranger.problem or "")


def test_with_neither_both_problems_are_reported() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with client(StandIn(port=free_port()), service=nobody) as asking:
        found = asking.online(UP)
    assert (found.online, found.source) == (None, "belief")
    query, _, belief = (found.problem or "").partition("; ")
    assert "the status query at" in query and "cannot be reached" in query
    assert f"the service at {nobody} cannot be reached" in belief


def test_a_query_that_hangs_costs_one_timeout(standin: StandIn, believing: Service) -> None:
    standin.script.append("hang")
    with client(standin, believing, timeout_s=0.3) as asking:
        found = asking.online(UP)
    assert "did not answer within 0.3 s" in (found.problem or "")


def test_after_some_failures_in_a_row_the_broker_is_left_alone(standin: StandIn, believing: Service) -> None:
    standin.rates = {"error": 1.0}
    with client(standin, believing) as asking:
        found = [asking.online(UP) for _ in range(10)]
    assert len(standin.calls) == LIMITS.failures
    assert "next attempt is in 5 s" in (found[-1].problem or "")
    assert all(one.online for one in found)


def test_no_free_call_within_the_rate_is_a_problem(standin: StandIn, believing: Service) -> None:
    with client(standin, believing, rate=1, timeout_s=1.0) as asking:
        assert asking.online(UP).source == "query"
        second = asking.online(UP)
    assert second.source == "belief" and second.problem == "no free slot within the rate limit of 1 calls a second"
    assert len(standin.calls) == 1


def test_a_throttled_client_waits(standin: StandIn) -> None:
    standin.script.append("throttled")
    standin.retry_after = "3000"
    with client(standin) as asking:
        asking.online(UP)
        assert "no free slot" in (asking.online(UP).problem or "")
    assert len(standin.calls) == 1


def test_threads_share_the_rate(standin: StandIn) -> None:
    standin.truth = {f"G@@@{n}": 1 for n in range(120)}
    start = threading.Barrier(8)
    with client(standin, rate=40) as asking, ThreadPoolExecutor(8) as threads:

        def some(first: int) -> bool:
            start.wait()
            return all(asking.online(f"G@@@{n}") for n in range(first, 120, 8))

        assert all(threads.map(some, range(8)))
    assert len(standin.calls) == 120 and standin.most_in_a_second() <= 40


def test_a_service_gets_its_token(tmp_path: Path) -> None:
    port = free_port()
    http = {"listen": f"127.0.0.1:{port}", "token": {"env": "ROLLCALL_TEST_TOKEN"}}
    with service(tmp_path, http=http) as made:
        made.start(ready=False, ROLLCALL_TEST_TOKEN="word of mouth")
        with client(service=f"127.0.0.1:{port}", token=lambda: "word of mouth") as asking:
            eventually(lambda: asking.online(UP).problem, lambda problem: "does not know" in (problem or ""))
        with client(service=f"127.0.0.1:{port}", token="another") as asking:
            problem = asking.online(UP).problem
        assert problem is not None and "401: sign in, or send a bearer token" in problem and "another" not in problem


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"online":"true"}', b'{"online":true,"age":"1"}', b'{"online":true,"connections":true}',
     b'{"online":true,"asked_at":"yesterday"}', b"<html>", b'{"online":1}'],
)  # fmt: skip
def test_a_stranger_in_place_of_the_service_is_no_belief(standin: StandIn, body: bytes) -> None:
    standin.script.append(Reply(body=body))
    with client(service=standin.url) as asking:
        found = asking.online(UP)
    assert found.online is None and "is it a Rollcall service?" in (found.problem or "")


def test_what_a_service_with_a_provider_says_is_read(standin: StandIn) -> None:
    standin.script.append(
        Reply(
            body=b'{"client":"x","online":true,"connections":2,"source":"query","asked_at":"2026-01-01T00:00:00.000Z","age":3}'
        )
    )
    with client(service=standin.url) as asking:
        found = asking.online(UP)
    assert (found.connections, found.age, found.source) == (2, 3.0, "query")
    assert found.asked_at == datetime(2026, 1, 1, tzinfo=UTC)


class Yes:
    """A provider of somebody's own."""

    batch_size = 1

    def query(self, client: str) -> int | None:
        return 1

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        return dict.fromkeys(clients, 1)

    def close(self) -> None:
        pass


def test_a_provider_of_ones_own_will_do() -> None:
    with StatusClient(provider=Yes()) as asking:
        assert asking.online(UP)


def test_keys_that_cannot_be_read_are_a_problem_not_an_error(standin: StandIn, tmp_path: Path) -> None:
    with client(standin, secret=(tmp_path / "secret").read_text) as asking:
        found = asking.online(UP)
    assert found.online is None and "No such file" in (found.problem or "")


@pytest.mark.parametrize("wrong", ["", "x" * 257, "€" * 86, "a\nb", "a\x85b", "\ud800"])
def test_an_id_that_cannot_be_is_refused(wrong: str) -> None:
    with StatusClient(provider=Yes()) as asking, pytest.raises(ValueError, match="client id"):
        asking.online(wrong)


def test_an_id_must_be_a_text() -> None:
    with StatusClient(provider=Yes()) as asking, pytest.raises(TypeError, match="client id"):
        asking.online(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [".", ".."])
def test_ids_that_no_path_can_hold_are_a_problem(believing: Service, name: str) -> None:
    with client(believing=believing) as asking:
        assert "cannot be queried" in (asking.online(name).problem or "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "no status provider"),
        ({"endpoint": "h"}, "all four"),
        ({"provider": Yes(), "endpoint": "h"}, "all four"),
        ({"provider": Yes(), "endpoint": "h", "instance": "i", "access_key": "k", "secret": "s"}, "not both"),
        ({"service": "http://h/v1"}, "endpoint"),
        ({"service": "h", "rate": 301}, "300"),
        ({"service": "h", "rate": 0}, "300"),
        ({"service": "h", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_wrong_use_is_refused_at_once(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        StatusClient(**wrong)


def test_neither_client_nor_answer_shows_a_key(standin: StandIn) -> None:
    with client(standin, token="tok") as asking:
        assert SECRET not in repr(asking) and SECRET not in repr(asking.online(UP))


def test_the_example_of_the_documents_runs(
    standin: StandIn, believing: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    code = code.replace("http://127.0.0.1:8900", standin.url).replace("http://127.0.0.1:8080", believing.url)
    monkeypatch.setenv("STATUS_ACCESS_KEY", standin.access_key)
    monkeypatch.setenv("STATUS_SECRET", standin.secret)
    standin.truth["GID_PUMP@@@p-1"] = 2
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102  # our own documents
    scope["statuses"].close()
    assert capsys.readouterr().out == "online, connections: 2\n"


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, engine\n"
        "assert 'requests' not in sys.modules and 'engine.status' not in sys.modules\n"
        "from engine import StatusClient\n"
        "assert 'fastapi' not in sys.modules and 'engine.runtime.app' not in sys.modules and 'alibabacloud_tea_openapi' not in sys.modules\n"
        "assert StatusClient is engine.StatusClient\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_names_are_missing_as_ever() -> None:
    import engine

    with pytest.raises(AttributeError, match="no attribute 'Statusclient'"):
        engine.Statusclient  # noqa: B018
    assert OnlineStatus.__name__ in engine.__all__
