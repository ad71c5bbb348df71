"""The vendor's SDK against the stand-in of its service: queries, answers, and failures in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RollcallError
from engine.status.base import QueryFailed
from engine.status.openapi import OpenApiProvider
from tests.acceptance.service import free_port
from tests.status.certificates import made_certificate
from tests.status.standin import BATCH, INSTANCE, SECRET, SINGLE, StandIn
from tests.status.standin_server import Reply

CLIENT = "GID_XXX@@@device0001"


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(truth={CLIENT: 2}) as made:
        yield made


def provider(standin: StandIn, **other: Any) -> OpenApiProvider:
    told: dict[str, Any] = standin.keys | {"timeout_s": 30.0} | other
    key, secret = told.pop("access_key"), told.pop("secret")
    return OpenApiProvider(access_key=lambda: key, secret=lambda: secret, **told)


def failure(ask: Callable[[], object]) -> QueryFailed:
    with pytest.raises(QueryFailed) as caught:
        ask()
    assert SECRET not in str(caught.value)
    return caught.value


def test_one_client_is_queried_exactly(standin: StandIn) -> None:
    asking = provider(standin)
    assert (asking.query(CLIENT), asking.query("GID_XXX@@@other")) == (1, 0)
    assert [(call.operation, call.clients) for call in standin.calls] == [
        (SINGLE, (CLIENT,)),
        (SINGLE, ("GID_XXX@@@other",)),
    ]


def test_ten_are_queried_at_once_and_may_be_behind(standin: StandIn) -> None:
    clients = [f"G@@@{n}" for n in range(10)]
    standin.truth.update(dict.fromkeys(clients[::2], 1))
    asking = provider(standin)
    assert asking.query_many(clients) == {client: int(n % 2 == 0) for n, client in enumerate(clients)}
    standin.cache = {clients[1]: 1}
    assert asking.query_many(clients[:2]) == {clients[0]: 0, clients[1]: 1}
    assert [call.operation for call in standin.calls] == [BATCH, BATCH]
    assert standin.asked()[:10] == clients


@pytest.mark.parametrize("count", [0, 11])
def test_more_than_ten_or_none_are_refused_before_any_call(standin: StandIn, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 10"):
        provider(standin).query_many(["G@@@a"] * count)
    assert standin.calls == []


@pytest.mark.parametrize("client", ["G@@@a b+c&d=e/é?#%41~*'", "G@@@" + "x" * 252, "ü@@@€"])
def test_any_client_id_arrives_as_it_is(standin: StandIn, client: str) -> None:
    standin.truth[client] = 1
    assert provider(standin).query(client) == 1
    assert provider(standin).query_many([client]) == {client: 1}


def test_clients_that_the_answer_or_the_query_does_not_name_are_missing(standin: StandIn) -> None:
    standin.script.append(
        Reply(
            body=b'{"OnlineStatusList":[{"ClientId":"G@@@a","OnlineStatus":true},{"ClientId":"G@@@x","OnlineStatus":true},'
            b'{"ClientId":"G@@@b"},{"ClientId":"G@@@c","OnlineStatus":"true"}]}'
        )
    )
    assert provider(standin).query_many(["G@@@a", "G@@@b", "G@@@c"]) == {"G@@@a": 1}


def test_an_id_that_is_no_valid_text_is_not_queried(standin: StandIn) -> None:
    for ask in (lambda: provider(standin).query("G@@@\ud800"), lambda: provider(standin).query_many(["G@@@\ud800"])):
        assert "not valid Unicode text" in str(failure(ask))
    assert standin.calls == []


THROTTLED = b'{"Code":"Throttling.User","Message":"flow control","RequestId":"1"}'


@pytest.mark.parametrize(
    ("reply", "told", "lasting", "throttled", "pause_s"),
    [
        (Reply(status=429, body=b'{"Code":"x"}'), "limited the rate of calls", False, True, None),
        (Reply(status=400, body=THROTTLED), "limited the rate of calls (Throttling.User", False, True, None),
        (Reply(status=503, body=THROTTLED, headers={"x-acs-retry-after": "2500"}), "limited the rate", False, True, 2.5),
        (Reply(status=400, body=b'{"Code":"InvalidParameter"}'), "HTTP status 400 (InvalidParameter", True, False, None),
        (Reply(status=400, body=b'{"Code":"SignatureNonceUsed"}'), "HTTP status 400", False, False, None),
        (Reply(status=403, body=b'{"Code":"Forbidden.RAM"}'), f"denied access to instance {INSTANCE}", True, False, None),
        (Reply(status=500, body=b'{"Code":"InternalError","Message":"oh"}'), "InternalError: code: 500, oh", False, False, None),
        (Reply(status=502, body=b"<html>", kind="text/html"), "something other than JSON", False, False, None),
        (Reply(body=b"<html>sign in</html>", kind="text/html"), "something other than JSON", False, False, None),
        (Reply(body=b'{"OnlineSta'), "something other than JSON", False, False, None),
        (Reply(body=b"[1]"), "something other than JSON", False, False, None),
        (Reply(body=b"{}"), "something other than yes or no: None", False, False, None),
        (Reply(body=b'{"OnlineStatus":1}'), "something other than yes or no: 1", False, False, None),
        (Reply(body=b'{"OnlineStatus":"true"}'), "something other than yes or no: true", False, False, None),
        (Reply(body=b'{"OnlineStatus":true}', cut=-5), "closed the connection", False, False, None),
        (Reply(cut=0), "cannot be reached", False, False, None),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:9/x"}), "cannot be reached", False, False, None),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_sentence(
    standin: StandIn, reply: Reply, told: str, lasting: bool, throttled: bool, pause_s: float | None
) -> None:
    standin.script.append(reply)
    failed = failure(lambda: provider(standin).query(CLIENT))
    assert told in str(failed)
    assert (failed.lasting, failed.throttled, failed.retry_after_s) == (lasting, throttled, pause_s)
    assert len(standin.calls) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"OnlineStatusList":[]}', b'{"OnlineStatusList":[{"ClientId":"G@@@x"}]}'])
def test_a_batch_without_any_of_the_clients_is_no_answer(standin: StandIn, body: bytes) -> None:
    standin.script.append(Reply(body=body))
    assert "no result for any of the 1 clients" in str(failure(lambda: provider(standin).query_many([CLIENT])))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"secret": "another"}, "`secret` does not belong to `access_key`"),
        ({"access_key": "another"}, "does not know the access key"),
        ({"instance": "mqtt-cn-other"}, "denied access to instance mqtt-cn-other"),
    ],
)
def test_wrong_keys_are_distinguished(standin: StandIn, wrong: dict[str, str], told: str) -> None:
    failed = failure(lambda: provider(standin, **wrong).query(CLIENT))
    assert told in str(failed) and failed.lasting


def test_a_clock_that_is_off_is_named(standin: StandIn) -> None:
    standin.clock_off_s = 20 * 60
    failed = failure(lambda: provider(standin).query(CLIENT))
    assert "this machine's clock is off by more than 15 minutes" in str(failed) and failed.lasting


def test_keys_are_read_at_every_call(standin: StandIn) -> None:
    keys = iter(["old", SECRET, SECRET])
    told = standin.keys
    asking = OpenApiProvider(standin.url, told["instance"], lambda: told["access_key"], lambda: next(keys))
    assert "refused the signature" in str(failure(lambda: asking.query(CLIENT)))
    assert asking.query(CLIENT) == asking.query(CLIENT) == 1
    asking.close()


def test_a_service_that_never_answers_is_given_up(standin: StandIn) -> None:
    standin.script.append("hang")
    failed = failure(lambda: provider(standin, timeout_s=0.05).query(CLIENT))
    assert "did not answer within 0.05 s" in str(failed)


def test_an_unreachable_service_is_reported_in_the_words_of_the_system() -> None:
    asking = provider(StandIn(port=free_port()))
    assert "connection refused" in str(failure(lambda: asking.query(CLIENT)))


def test_certificates_are_verified(tmp_path: Path) -> None:
    certificate = made_certificate(tmp_path)
    with StandIn(tls=certificate, truth={CLIENT: 1}) as standin:
        failed = failure(lambda: provider(standin).query(CLIENT))
        assert "certificate verify failed" in str(failed) and failed.lasting
        assert standin.calls == []
    with StandIn(tls=certificate, truth={CLIENT: 1}) as standin:
        assert provider(standin, ca=certificate[0]).query(CLIENT) == 1


def test_without_the_sdk_it_says_how_to_get_it(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alibabacloud_onsmqtt20200420", None)
    with pytest.raises(RollcallError, match=r"pip install 'rollcall-presence\[openapi\]'"):
        provider(standin)
