"""The signed login, where a message says its type, and what is said of refusals. No broker needed."""

from __future__ import annotations

import pytest
from aiormq import exceptions

from engine.sources.amqp.login import (
    AmqpMessage,
    decode_messages,
    is_hanging_up,
    kind_of,
    lost_in_login,
    refusal,
    signed_login,
)

NOW = 1_767_225_600_000


def message(body: str | bytes, kind: str | None = None) -> AmqpMessage:
    return AmqpMessage(1, kind, body.encode() if isinstance(body, str) else body, NOW)


def event(channel: str, more: str = "") -> str:
    return f'{{"clientId":"G@@@d","time":{NOW},"channelId":"{channel}"{more}}}'


def test_the_login_is_the_vendors_published_vector() -> None:
    login = signed_login("mqtt-cn-test00001", "testAccessKeyId", "testSecretKey0123456789", 1566115200000)
    assert login.user == "MDptcXR0LWNuLXRlc3QwMDAwMTp0ZXN0QWNjZXNzS2V5SWQ="
    assert login.password == "h9W77IX6XTKvxnhN4qLEiwNfqh4="
    assert login.sign_key == "1566115200000"


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (("tcpclean", None, "STATUS"), "tcpclean"),
        ((None, {"tag": "connect"}, "STATUS"), "connect"),
        ((None, {"eventType": "disconnect"}, ""), "disconnect"),
        ((None, None, "connect"), "connect"),
        (("application", {"tag": 5}, "STATUS"), None),
        ((None, {}, None), None),
    ],
)
def test_a_type_beside_the_body_is_seen_and_anything_else_says_nothing(
    told: tuple[str | None, dict[str, object] | None, str | None], kind: str | None
) -> None:
    assert kind_of(*told) == kind


def test_messages_are_decoded_in_their_order_whatever_says_their_type() -> None:
    bodies = [
        message(event("a"), "connect"),
        message(event("b"), "tcpclean"),
        message(event("c", ',"eventType":"disconnect"')),
        message(event("d"), "connect"),
    ]
    decoded = decode_messages(bodies, NOW, 0)
    assert [(found.channel, found.type) for found in decoded.events] == [
        ("a", "connect"), ("b", "tcpclean"), ("c", "disconnect"), ("d", "connect"),
    ]  # fmt: skip
    assert len(decoded.raw) == 4 and not decoded.rejected


def test_a_message_that_is_no_event_is_rejected_by_its_place() -> None:
    good = message(event("a", ',"eventType":"connect"'))
    contradiction = message(event("a", ',"eventType":"connect"'), "tcpclean")
    decoded = decode_messages([good, message(""), message("nonsense"), contradiction, good, message(" \n")], NOW, 0)
    assert len(decoded.events) == 2
    assert {found.line: found.reason.split(" ")[0] for found in decoded.rejected} == {
        2: "the", 3: "not", 4: "eventType", 6: "the",
    }  # fmt: skip


def test_what_lies_in_the_future_is_counted_over_all_types() -> None:
    ahead = f'{{"clientId":"G@@@d","time":{NOW + 1},"channelId":"c"}}'
    decoded = decode_messages([message(ahead, "connect"), message(ahead, "tcpclean")], NOW, 0)
    assert decoded.future == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.ProbableAuthenticationError("ACCESS_REFUSED"), "refuses the login: wrong access key"),
        (exceptions.InvalidFrameError("Expected OpenOk, got <Connection.Close object>"), "virtual host MQTT"),
        (exceptions.ChannelNotFoundEntity("NOT_FOUND - no queue 'STATUS'"), "no such queue"),
        (exceptions.ChannelAccessRefused("ACCESS_REFUSED"), "refuses the queue STATUS"),
        (exceptions.AMQPConnectionError(111, "Connect call failed"), "cannot be reached: Connect call failed"),
        (TimeoutError(), "cannot be reached: no answer"),
    ],
)
def test_each_refusal_is_told_in_words_that_say_what_to_mend(error: Exception, words: str) -> None:
    told = refusal(error, "broker:5672", "MQTT", "STATUS")
    assert told.startswith("broker:5672 ") and words in told


def test_a_broker_that_hangs_up_during_the_login_is_told_apart_from_one_that_is_not_there() -> None:
    closed = exceptions.AMQPConnectionError("Server connection unexpectedly closed. Read 0 bytes")
    assert is_hanging_up(closed) and is_hanging_up(StopAsyncIteration())
    assert not is_hanging_up(exceptions.AMQPConnectionError(111, "Connect call failed"))
    assert "wrong access key" in lost_in_login("broker:5672", False) and "needs TLS" in lost_in_login(
        "broker:5672", False
    )
    assert "over TLS" in lost_in_login("broker:5671", True)
