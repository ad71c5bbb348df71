"""The signed route against the stand-in: every answer it can give, and the sentence an operator gets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.endpoints import Endpoint, endpoint_of
from engine.core.foreign_text import visible_text
from engine.status.base import QueryFailed
from engine.status.http import safe_message
from engine.status.route import RouteProvider, signature, string_to_sign
from tests.acceptance.service import free_port, now_ms
from tests.status.certificates import made_certificate
from tests.status.standin import ACCESS_KEY, INSTANCE, SECRET, StandIn
from tests.status.standin_server import Reply

CLIENT = "GID_XXX@@@device0001"


def provider(standin: StandIn, **other: Any) -> RouteProvider:
    told: dict[str, Any] = {
        "endpoint": standin.url,
        "instance": INSTANCE,
        "access_key": lambda: ACCESS_KEY,
        "secret": lambda: SECRET,
        "now_ms": now_ms,
        "timeout_s": 30.0,
    }
    return RouteProvider(**(told | other))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


def failure(ask: Callable[[], object]) -> QueryFailed:
    with pytest.raises(QueryFailed) as caught:
        ask()
    assert SECRET not in str(caught.value) and "signature=" not in str(caught.value)
    return caught.value


def test_the_published_vector_is_signed_as_published() -> None:
    parameters = {
        "accessKey": "testAccessKeyId",
        "instanceId": "mqtt-cn-test00001",
        "resource": "GID_XXX@@@device0001",
        "timestamp": "1566115200000",
    }
    assert string_to_sign(parameters) == (
        "accessKey=testAccessKeyId&instanceId=mqtt-cn-test00001&resource=GID_XXX@@@device0001&timestamp=1566115200000"
    )
    signed = signature("testSecretKey0123456789", parameters)
    assert signed == "U+C8Zze1gyI/xD/mADxZCQsFlAo="
    assert quote(signed, safe="") == "U%2BC8Zze1gyI%2FxD%2FmADxZCQsFlAo%3D"


@pytest.mark.parametrize(("truth", "answer"), [(0, 0), (1, 1), (3, 3), (-1, None)])
def test_a_good_answer_is_a_number_of_connections_or_unknown(standin: StandIn, truth: int, answer: int | None) -> None:
    standin.truth[CLIENT] = truth
    asking = provider(standin)
    assert asking.query(CLIENT) == answer
    assert asking.query_many([CLIENT]) == {CLIENT: answer}
    asking.close()


@pytest.mark.parametrize("clients", [[], ["G@@@a", "G@@@b"]])
def test_there_are_no_batches(standin: StandIn, clients: list[str]) -> None:
    with pytest.raises(ValueError, match="one client per call"):
        provider(standin).query_many(clients)
    assert standin.calls == []


def test_an_id_that_is_no_valid_text_is_not_queried(standin: StandIn) -> None:
    failed = failure(lambda: provider(standin).query("G@@@\ud800"))
    assert failed.lasting and standin.calls == []


@pytest.mark.parametrize("client", ["G@@@a b+c&d=e/é?#%41", "no group", "G@@@" + "x" * 252, "ü@@@€", "G@@@%2F"])
def test_any_client_id_arrives_as_it_is(standin: StandIn, client: str) -> None:
    standin.truth[client] = 1
    assert provider(standin).query(client) == 1
    assert standin.asked() == [client]


@pytest.mark.parametrize(
    ("reply", "told", "lasting"),
    [
        (Reply(status=400, body=b"bad", kind="text/plain"), "HTTP status 400", True),
        (Reply(status=400, body=b'{"code":2,"success":false,"message":"no"}'), "refused the signature (no)", True),
        (Reply(status=401), "HTTP status 401", True),
        (Reply(status=403), "HTTP status 403", True),
        (Reply(status=404), "HTTP status 404", True),
        (Reply(status=408), "HTTP status 408", False),
        (Reply(status=500), "HTTP status 500", False),
        (Reply(status=502, body=b"<html>", kind="text/html"), "HTTP status 502", False),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:9/x?signature=1"}), "redirect", True),
        (Reply(status=301), "redirect", True),
        (Reply(status=307, headers={"Location": "//[bad"}), "redirect", True),
        (
            Reply(body=b'{"code":1,"success":false,"message":"x is missing"}'),
            "reported a missing parameter (x is missing)",
            True,
        ),
        (Reply(body=b'{"code":2,"success":false,"message":""}'), "`secret` does not belong to `access_key`", True),
        (Reply(body=b'{"code":3,"success":false}'), f"denied access to instance {INSTANCE}", True),
        (Reply(body=b'{"code":7,"success":false,"message":"busy"}'), "code 7 (busy)", False),
        (Reply(body=b'{"code":0,"success":false,"message":"busy"}'), "reported a failure, code 0 (busy)", False),
        (Reply(body=b'{"code":5,"success":true,"online":1}'), "reported a failure", False),
        (Reply(body=b'{"code":"0","success":true,"online":1}'), "reported a failure", False),
        (Reply(body=b'{"success":true,"online":1}'), "reported a failure", False),
        (Reply(body=b'{"code":0,"success":"true","online":1}'), "reported a failure", False),
        (Reply(body=b'{"code":0,"success":true}'), "number of connections", False),
        (Reply(body=b'{"code":0,"success":true,"online":"1"}'), "number of connections: 1", False),
        (Reply(body=b'{"code":0,"success":true,"online":true}'), "number of connections", False),
        (Reply(body=b'{"code":0,"success":true,"online":1.0}'), "number of connections", False),
        (Reply(body=b'{"code":0,"success":true,"online":-2}'), "number of connections: -2", False),
        (Reply(body=b'{"code":0,"success":true,"online":99999999999999999999}'), "number of connections", False),
        (Reply(body=b'{"code":0,"success":true,"onl'), "not answer with a complete JSON object", False),
        (Reply(body=b""), "not answer with a complete JSON object", False),
        (Reply(body=b"\xff\xfe\x00"), "not answer with a complete JSON object", False),
        (Reply(body=b"[1]"), "not answer with a complete JSON object", False),
        (Reply(body=b"[" * 60_000), "not answer with a complete JSON object", False),
        (Reply(body=b"<html>sign in</html>", kind="text/html"), "a web page, not JSON", False),
        (Reply(body=b'{"code":0}' + b" " * 70_000), "more than 64 KiB", False),
        (Reply(body=b'{"code":0,"success":true,"online":1}', cut=-5), "closed the connection", False),
        (Reply(cut=0), "cannot be reached", False),
    ],
)
def test_every_other_answer_is_a_sentence(standin: StandIn, reply: Reply, told: str, lasting: bool) -> None:
    standin.script.append(reply)
    failed = failure(lambda: provider(standin).query(CLIENT))
    assert told in str(failed) and standin.url in str(failed)
    assert (failed.lasting, failed.throttled, failed.retry_after_s) == (lasting, False, None)
    assert len(standin.calls) == 1


def test_a_redirect_is_never_followed() -> None:
    with StandIn() as standin, StandIn() as elsewhere:
        standin.script.append(Reply(status=302, headers={"Location": f"{elsewhere.url}/route/clientId/get"}))
        failure(lambda: provider(standin).query(CLIENT))
        assert elsewhere.calls == []


@pytest.mark.parametrize(
    ("status", "header", "least_s", "most_s"),
    [
        (429, "7", 7, 7),
        (503, "2", 2, 2),
        (429, "999999", 3600, 3600),
        (429, "in 60 s", 55, 61),
        (429, "60 s ago", 0, 0),
    ],
)
def test_a_service_that_asks_for_fewer_calls_says_for_how_long(
    standin: StandIn, status: int, header: str, least_s: float, most_s: float
) -> None:
    standin.clock_off_s = 86_400  # its date is by its own clock
    dates = {"in 60 s": 60, "60 s ago": -60}
    if header in dates:
        header = formatdate(time.time() + standin.clock_off_s + dates[header], usegmt=True)
    standin.script.append(Reply(status=status, headers={"Retry-After": header}))
    failed = failure(lambda: provider(standin).query(CLIENT))
    assert failed.throttled and not failed.lasting
    assert failed.retry_after_s is not None and least_s <= failed.retry_after_s <= most_s


@pytest.mark.parametrize(("off_s", "which"), [(360, "behind"), (-360, "ahead"), (-86_400, "ahead")])
def test_a_clock_that_is_off_is_reported_with_the_difference(standin: StandIn, off_s: int, which: str) -> None:
    standin.clock_off_s = off_s
    failed = failure(lambda: provider(standin).query(CLIENT))
    told = str(failed)
    assert failed.lasting and f"({which})" in told
    seconds = int(told.partition("this machine's clock is off by ")[2].split()[0])
    assert abs(seconds - abs(off_s)) <= 30


def test_an_expired_timestamp_without_a_date_still_names_the_clock(standin: StandIn) -> None:
    standin.script.append(Reply(body=b'{"code":4,"success":false}', headers={"Date": "yesterday"}))
    assert "this machine's clock is off by more than 300 s" in str(failure(lambda: provider(standin).query(CLIENT)))


def test_neither_secret_nor_signature_is_shown_when_the_service_repeats_them(standin: StandIn) -> None:
    given = {"accessKey": ACCESS_KEY, "instanceId": INSTANCE, "resource": CLIENT, "timestamp": "1566115200000"}
    signed = signature(SECRET, given)
    body = f'{{"code":2,"success":false,"message":"{SECRET} {signed} {quote(signed, safe="")} end\\n"}}'
    standin.script.append(Reply(body=body.encode()))
    failed = failure(lambda: provider(standin, now_ms=lambda: 1566115200000).query(CLIENT))
    assert "(*** *** *** end)" in str(failed)


def test_a_signed_url_reaches_no_log(standin: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    provider(standin).query(CLIENT)
    assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}
    assert "signature" not in caplog.text


def test_a_service_that_never_answers_is_given_up(standin: StandIn) -> None:
    standin.script.append("hang")
    failed = failure(lambda: provider(standin, timeout_s=0.05).query(CLIENT))
    assert "did not answer within 0.05 s" in str(failed) and not failed.lasting


def test_an_unreachable_service_is_reported_in_the_words_of_the_system() -> None:
    asking = provider(StandIn(port=free_port()), timeout_s=5.0)
    failed = failure(lambda: asking.query(CLIENT))
    assert "cannot be reached: connection refused" in str(failed) and not failed.lasting


def test_a_name_that_does_not_exist_is_said_to() -> None:
    asking = provider(StandIn(), endpoint="http://no-such-host.invalid", timeout_s=5.0)
    assert "its name cannot be resolved" in str(failure(lambda: asking.query(CLIENT)))


def test_proxies_of_the_environment_are_not_used(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert provider(standin).query(CLIENT) == 0


def test_keys_are_read_at_every_call(standin: StandIn) -> None:
    keys = iter(["old", SECRET])
    asking = provider(standin, secret=lambda: next(keys))
    assert "refused the signature" in str(failure(lambda: asking.query(CLIENT)))
    assert asking.query(CLIENT) == 0


def test_many_threads_share_one_provider(standin: StandIn) -> None:
    standin.truth.update({f"G@@@{n}": n for n in range(200)})
    asking = provider(standin)
    start = threading.Barrier(8)

    def some(first: int) -> list[int | None]:
        start.wait()
        return [asking.query(f"G@@@{n}") for n in range(first, 200, 8)]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(some, range(8))) == [list(range(first, 200, 8)) for first in range(8)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made_certificate(tmp_path_factory.mktemp("tls"))


def test_a_certificate_that_is_trusted_is_verified(certificate: tuple[Path, Path]) -> None:
    with StandIn(tls=certificate, truth={CLIENT: 1}) as standin:
        assert provider(standin, ca=certificate[0]).query(CLIENT) == 1


def test_a_certificate_that_is_not_trusted_is_refused(certificate: tuple[Path, Path]) -> None:
    with StandIn(tls=certificate) as standin:
        failed = failure(lambda: provider(standin).query(CLIENT))
        assert "certificate verify failed" in str(failed) and failed.lasting
        assert standin.calls == []


def test_a_certificate_of_another_name_is_refused(certificate: tuple[Path, Path]) -> None:
    with StandIn(tls=certificate) as standin:
        url = standin.url.replace("127.0.0.1", "localhost")
        failed = failure(lambda: provider(standin, endpoint=url, ca=certificate[0]).query(CLIENT))
        assert "certificate" in str(failed) and failed.lasting


@pytest.mark.parametrize(
    ("text", "found", "shown"),
    [
        ("http://h:80", Endpoint("http", "h", 80), "http://h"),
        ("https://h.example.com", Endpoint("https", "h.example.com", 443), "https://h.example.com"),
        ("https://h:8443/", Endpoint("https", "h", 8443), "https://h:8443"),
        ("HTTP://H", Endpoint("http", "h", 80), "http://h"),
        ("h", Endpoint("https", "h", 443), "https://h"),
        ("h:90", Endpoint("https", "h", 90), "https://h:90"),
        ("127.0.0.1:90", Endpoint("http", "127.0.0.1", 90), "http://127.0.0.1:90"),
        ("localhost", Endpoint("http", "localhost", 80), "http://localhost"),
        ("[::1]:90", Endpoint("http", "::1", 90), "http://[::1]:90"),
        ("[2001:db8::1]", Endpoint("https", "2001:db8::1", 443), "https://[2001:db8::1]"),
    ],
)
def test_an_endpoint_is_read(text: str, found: Endpoint, shown: str) -> None:
    assert endpoint_of(text) == found
    assert str(found) == shown


@pytest.mark.parametrize(
    "text",
    ["", "http://", "ftp://h", "http://u:secret@h", "u:secret@h", "h/path", "http://h/path", "http://h?q=1", "h#f", "h:0",
     "h:70000", "h:x", "a b", "http://h\n", "::1", "[nonsense]", "-h", "http://h:80:90", "//h", "h..x"],
)  # fmt: skip
def test_anything_else_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="endpoint") as caught:
        endpoint_of(text)
    assert "secret@" not in str(caught.value)


@given(st.text(), st.text(alphabet="abc+/=", min_size=4))
def test_a_foreign_message_is_one_short_line_without_what_is_hidden(text: str, word: str) -> None:
    shown = safe_message(f"{text} {word} {quote(word, safe='')}", [word])
    assert len(shown) <= 201 and visible_text(shown) == shown
    assert word not in shown
