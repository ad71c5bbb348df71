"""What the answers of unhappy services mean: each in its own form, and whatever else may come."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions.receivers.base import PHASES, HttpAnswer
from engine.actions.receivers.table import SERVICES
from engine.core.delivery import LONGEST_RETRY_AFTER_MS, Answer, Delivered, Rejected, RetryLater
from tests.receivers.dingtalk_stand_in import DingTalkStandIn
from tests.receivers.feishu_stand_in import FeishuStandIn
from tests.receivers.neighbours import NEIGHBOURS, NOW_S, asked, message, over_http, service_of
from tests.receivers.ntfy_stand_in import NtfyStandIn
from tests.receivers.stand_in import HTML_PAGE, LOGIN_PAGE, Loopback, Reply, json_reply
from tests.receivers.telegram_stand_in import TelegramStandIn
from tests.receivers.wecom_stand_in import WeComStandIn

AGAIN, NEVER = "again", "never"

ANSWERS: list[tuple[str, Reply, str, int | None, str]] = [
    # service, what it answers, again or never, the pause in milliseconds, what is said of it
    ("slack", Reply(status=429, body=b"rate_limited", headers={"Retry-After": "30"}), AGAIN, 30_000, "HTTP 429: rate_limited"),
    ("slack", Reply(status=404, body=b"no_service"), NEVER, None, "HTTP 404: no_service"),
    ("slack", Reply(status=400, body=b"invalid_payload"), NEVER, None, "HTTP 400: invalid_payload"),
    ("slack", Reply(status=403, body=b"action_prohibited"), NEVER, None, "action_prohibited"),
    ("slack", Reply(status=500, body=b"rollup_error"), AGAIN, None, "HTTP 500: rollup_error"),
    ("slack-api", json_reply(200, {"ok": False, "error": "not_in_channel"}), NEVER, None, "invite the app"),
    ("slack-api", json_reply(200, {"ok": False, "error": "is_archived"}), NEVER, None, "Slack: is_archived"),
    ("slack-api", json_reply(200, {"ok": False, "error": "internal_error"}), AGAIN, None, "Slack: internal_error"),
    ("slack-api", json_reply(429, {"ok": False, "error": "ratelimited"}, **{"Retry-After": "7"}), AGAIN, 7_000, "ratelimited"),
    ("slack-api", json_reply(200, {"ok": False, "error": "ratelimited"}, **{"Retry-After": "7"}), AGAIN, 7_000, "ratelimited"),
    ("teams", Reply(status=429, headers={"Retry-After": "2"}), AGAIN, 2_000, "HTTP 429"),
    ("teams", Reply(status=413, body=b"Request entity too large"), NEVER, None, "HTTP 413"),
    ("teams", Reply(status=200, body=b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x"),
     AGAIN, None, "HTTP error 429"),
    ("teams", Reply(status=200, body=b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413 with ContextId x"),
     NEVER, None, "HTTP error 413"),
    ("discord", json_reply(429, {"message": "You are being rate limited.", "retry_after": 1.337, "global": False}), AGAIN, 1_337, "rate limited"),
    ("discord", json_reply(429, {"message": "slow", "retry_after": 6457}, **{"Retry-After": "7"}), AGAIN, 7_000, "slow"),
    ("discord", json_reply(429, {"message": "slow", "retry_after": 6.457}, **{"Retry-After": "7"}), AGAIN, 6_457, "slow"),
    ("discord", json_reply(404, {"message": "Unknown Webhook", "code": 10015}), NEVER, None, "Unknown Webhook"),
    ("telegram", TelegramStandIn.error(429, "Too Many Requests: retry after 11", retry_after=11), AGAIN, 11_000, "Too Many Requests"),
    ("telegram", TelegramStandIn.error(403, "Forbidden: bot was kicked from the group chat"), NEVER, None, "bot was kicked"),
    ("telegram", TelegramStandIn.error(400, "Bad Request: group chat was upgraded", migrate_to_chat_id=-1001), NEVER, None, "set `chat` to -1001"),
    ("telegram", json_reply(200, {"ok": False, "error_code": 500, "description": "Internal Server Error"}), AGAIN, None, "500"),
    ("telegram", json_reply(200, {"ok": False, "error_code": 400, "description": "chat not found"}), NEVER, None, "chat not found"),
    ("telegram", json_reply(200, {"ok": False}), NEVER, None, "no reason"),
    ("dingtalk", DingTalkStandIn.error(310000, "sign not match"), NEVER, None, "signature, keyword or address"),
    ("dingtalk", DingTalkStandIn.error(130101, "send too fast, exceed 20 times per minute"), AGAIN, None, "send too fast"),
    ("dingtalk", json_reply(200, {"status": 1111, "wait": 5, "punish": "deny", "errcode": 130101, "errmsg": "send too fast"}), AGAIN, 5_000, "too fast"),
    ("dingtalk", DingTalkStandIn.error(-1, "system busy"), AGAIN, None, "system busy"),
    ("dingtalk", DingTalkStandIn.error(400102, "robot is disabled"), NEVER, None, "switched off"),
    ("feishu", FeishuStandIn.error(19021, "sign match fail"), NEVER, None, "19021"),
    ("feishu", FeishuStandIn.error(11232, "frequency limited"), AGAIN, None, "11232"),
    ("feishu", FeishuStandIn.error(9499, "too many request"), AGAIN, None, "too many"),
    ("feishu", FeishuStandIn.error(9499, "Bad Request"), NEVER, None, "Bad Request"),
    ("feishu", FeishuStandIn.error(19024, "Key Words Not Found"), NEVER, None, "Key Words"),
    ("feishu", json_reply(400, {"code": 99991400, "msg": "request trigger frequency limit"}), AGAIN, None, "frequency"),
    ("feishu", json_reply(200, {"StatusCode": 19001, "StatusMessage": "param invalid"}), NEVER, None, "param invalid"),
    ("wecom", WeComStandIn.error(45009, "api freq out of limit"), AGAIN, None, "freq"),
    ("wecom", WeComStandIn.error(-1, "system busy"), AGAIN, None, "busy"),
    ("wecom", WeComStandIn.error(93000, "invalid webhook url"), NEVER, None, "93000"),
    ("pagerduty", json_reply(429, {"status": "throttle exceeded", "message": "Requests for this service are arriving too quickly"}), AGAIN, None, "too quickly"),
    ("pagerduty", json_reply(400, {"status": "invalid event", "message": "Event object is invalid", "errors": ["'routing_key' is invalid"]}),
     NEVER, None, "'routing_key' is invalid"),
    ("pagerduty", Reply(status=503), AGAIN, None, "HTTP 503"),
    ("opsgenie", json_reply(422, {"message": "Request body is not processable.", "errors": {"message": "can not be empty"}}), NEVER, None, "can not be empty"),
    ("opsgenie", json_reply(429, {"message": "You are making too many requests!"}), AGAIN, None, "too many requests"),
    ("opsgenie", json_reply(403, {"message": "You are not authorized"}), NEVER, None, "not authorized"),
    ("ntfy", NtfyStandIn.error(429, 42901, "limit reached: too many requests"), AGAIN, None, "limit reached"),
    ("ntfy", NtfyStandIn.error(403, 40301, "forbidden"), NEVER, None, "forbidden"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reply", "when", "pause_ms", "said"), ANSWERS, ids=[f"{one[0]}-{one[4]}" for one in ANSWERS]
)
def test_an_unhappy_service_is_understood(
    name: str, reply: Reply, when: str, pause_ms: int | None, said: str, loopback: Loopback
) -> None:
    loopback.stand_ins[name].unhappy.append(reply)
    answer = over_http(name, message(), f"{loopback.url}/{name}")
    assert isinstance(answer, RetryLater if when == AGAIN else Rejected)
    assert said in answer.reason
    if isinstance(answer, RetryLater):
        assert answer.retry_after_ms == pause_ms
    assert over_http(name, message(), f"{loopback.url}/{name}") == Delivered()


WITH_WORDS = [
    name
    for name in NEIGHBOURS
    if name not in ("slack", "teams", "discord", "pagerduty", "opsgenie", "ntfy", "slack-api")
]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_page_of_a_proxy_is_no_success(name: str, loopback: Loopback) -> None:
    loopback.stand_ins[name].unhappy.extend([HTML_PAGE, LOGIN_PAGE])
    assert over_http(name, message(), f"{loopback.url}/{name}") == RetryLater(
        reason="HTTP 502: <html><body><h1>502 Bad Gateway</h1></body></html>"
    )
    answer = over_http(name, message(), f"{loopback.url}/{name}")
    assert isinstance(answer, RetryLater)
    assert answer.may_have_arrived
    assert "not in the words of the service" in answer.reason


@pytest.mark.parametrize("name", WITH_WORDS)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"ok": "true"}', b'{"errcode": true}', b'{"code": "x"}', b"\xff", b"[" * 5000],
)
def test_a_service_that_says_so_in_its_body_must_say_so(name: str, body: bytes) -> None:
    answer = judged(name, 200, body)
    assert isinstance(answer, RetryLater)
    assert answer.may_have_arrived


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 451])
def test_a_refusal_and_a_redirect_are_final(name: str, status: int) -> None:
    assert isinstance(judged(name, status, b""), Rejected)


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 0, 100, 999])
def test_trouble_is_tried_again(name: str, status: int) -> None:
    assert isinstance(judged(name, status, b""), RetryLater)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_no_pause_is_longer_than_an_hour(name: str) -> None:
    bodies = {"retry_after": 1e9, "wait": 1e9, "parameters": {"retry_after": 10**12}, "ok": False, "error_code": 429, "errcode": 130101, "code": 11232}  # fmt: skip
    answer = judged(name, 429, json.dumps(bodies).encode(), {"retry-after": "99999999"})
    assert isinstance(answer, RetryLater)
    assert answer.retry_after_ms is None or answer.retry_after_ms <= LONGEST_RETRY_AFTER_MS


def test_a_compressed_answer_is_read() -> None:
    body = gzip.compress(b'{"errcode": 310000, "errmsg": "sign not match"}')
    answer = judged("dingtalk", 200, body, {"content-encoding": "gzip"})
    assert isinstance(answer, Rejected)
    assert "sign not match" in answer.reason


def judged(name: str, status: int, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return service_of(name).judge(message(), HttpAnswer(status=status, headers=headers or {}, body=body, now_s=NOW_S))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)  # fmt: skip
KEYS = st.sampled_from(["ok", "error", "errcode", "errmsg", "wait", "code", "msg", "StatusCode", "parameters", "retry_after", "error_code",
                        "description", "message", "errors", "status", "error", "migrate_to_chat_id"])  # fmt: skip
OBJECTS = st.dictionaries(KEYS, JSON, max_size=6)
BODIES = (
    st.binary(max_size=300)
    | OBJECTS.map(lambda found: json.dumps(found).encode())
    | st.text(max_size=100).map(str.encode)
)
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "content-encoding", "content-type"]), st.text(max_size=12) | st.sampled_from(["gzip", "5", "-1"]))  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
@given(status=st.integers(-1, 1000), body=BODIES, headers=HEADERS, phase=st.sampled_from(PHASES))
def test_no_answer_makes_a_service_fail(
    name: str, status: int, body: bytes, headers: dict[str, str], phase: str
) -> None:
    answer = SERVICES[name].judge(
        message(phase=phase), HttpAnswer(status=status, headers=headers, body=body, now_s=NOW_S)
    )
    assert isinstance(answer, Delivered | RetryLater | Rejected)
    assert isinstance(answer, Delivered) <= (200 <= status < 300 or status == 404)
    if isinstance(answer, RetryLater) and answer.retry_after_ms is not None:
        assert 0 <= answer.retry_after_ms <= LONGEST_RETRY_AFTER_MS


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_target_names_no_secret(name: str) -> None:
    target = service_of(name).target(NEIGHBOURS[name].at("https://user:secret@host.example:8443"))
    assert target.startswith(NEIGHBOURS[name].service + "://")
    assert "secret" not in target
    assert "xoxb" not in target


def test_signatures_are_those_of_the_documentation() -> None:
    """The values come from `openssl dgst -sha256 -hmac`, not from our code."""
    dingtalk = asked("dingtalk", message(), "https://oapi.dingtalk.com", now_s=1_600_000_000.0)
    assert dingtalk.url.endswith("&timestamp=1600000000000&sign=nVDy2kli396sQV2feyDeIyiIPNCMwVHeJnppDT8gnf8%3D")
    feishu = json.loads(asked("feishu", message(), "https://open.feishu.cn", now_s=1_600_000_000.0).body)
    assert (feishu["timestamp"], feishu["sign"]) == ("1600000000", "cLnlNwSAsxRHZLSHSak/f9MmlFngz/bajCceDrz1gBU=")
