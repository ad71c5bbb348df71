"""What a planned e-mail becomes: recipients, subject, text, HTML, thread; and that nothing a device says can change whom it reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email import message_from_bytes
from email.policy import default
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions.email.message import message_of
from engine.config.addresses import is_address, mailbox
from engine.core.alerting.delivery_plan import Notification
from engine.core.alerting.delivery_plan import planned as planned_deliveries
from engine.core.alerting.planned_delivery import PlannedDelivery, stamped
from engine.core.rules import Action, Rule
from engine.templates.email import MAX_LISTED, MAX_SUBJECT_CHARACTERS, SHIPPED, MailRenderer, MailRoute
from engine.templates.rendered import Rendered

RENDERER = MailRenderer(MailRoute("Rollcall <rollcall@example.com>", "smtp://mail.example.com:587"))
AT_MS = 1_767_225_690_000
OPS = "ops@example.com"


def variables(client: str = "G@@@p1", attributes: Mapping[str, str] | None = None, **alert: Any) -> dict[str, Any]:
    group, _, device = client.partition("@@@")
    return {
        "client": {"id": client, "group": group, "device": device, "ip": "10.0.0.1", "attributes": attributes or {}},
        "status": "offline",
        "previous": "online",
        "occurred_at": "2026-01-01T00:01:00.000Z",
        "settled_at": "2026-01-01T00:01:30.000Z",
        "since": "2026-01-01T00:01:00.000Z",
        "duration": 30,
        "graceful": True,
        "flaps": 2,
        "flapping": False,
        "verified_at": None,
        "rule": {"name": "pump-offline", "severity": "critical", "description": "Look at <it>", "labels": {"team": "a"}},
        "alert": {
            "id": "a1", "state": "firing", "reason": "", "started_at": "2026-01-01T00:01:30.000Z", "source": "",
            "detail": "", "count": 1, "clients": [client], "key": {}, "unverified": False,
        } | alert,
    }  # fmt: skip


def about_feed() -> dict[str, Any]:
    found = variables(source="broker", detail="silent for 5m", clients=[])
    return {"client": None, "rule": found["rule"], "alert": found["alert"]}


def planned(
    seen: Mapping[str, Any] | None = None, phase: str = "firing", clients: tuple[str, ...] | None = None, **spec: Any
) -> PlannedDelivery:
    spec = {"to": (OPS,), **spec}
    action = Action(kind="email", spec={key: value for key, value in spec.items() if value is not None})
    rule = Rule(name="pump-offline", triggers=("offline",), actions=(action,), on_recovery=(action,))
    notification = Notification(
        id="a1",
        decision="a1",
        client="G@@@p1",
        clients=clients,
        lane="l",
        variables=variables() if seen is None else seen,
        first_sent_ms=None if phase == "firing" else AT_MS - 60_000,
    )
    (found,) = planned_deliveries(rule, phase, notification, AT_MS)
    return found


def rendered(*args: Any, **more: Any) -> Rendered:
    return RENDERER(planned(*args, **more))


def test_what_a_rule_says_is_what_is_sent() -> None:
    found = rendered(
        to=(OPS, "{{ client.attributes.owner }}"),
        cc=("boss@example.com", OPS.upper()),
        seen=variables(attributes={"owner": "anna@example.com"}),
        subject="{{ client.device }}\nis {{ status }}",
        text="{{ client.id }} is gone",
        html="<p>{{ rule.description }}</p>",
    )
    assert found.problem is None and found.dead is None and found.target == "smtp://mail.example.com:587"
    key = found.request.pop("message_id").strip("<>").partition("@")
    assert re.fullmatch("[0-9a-f]{28}", key[0]) and key[2] == "example.com"
    assert found.request == {
        "from": "Rollcall <rollcall@example.com>",
        "to": [OPS, "anna@example.com"],
        "cc": ["boss@example.com"],
        "subject": "p1 is offline",
        "text": "G@@@p1 is gone",
        "html": "<p>Look at &lt;it&gt;</p>",
        "date": "Thu, 01 Jan 2026 00:01:30 +0000",
    }


def test_a_recovery_answers_its_firing() -> None:
    rule_key = stamped(AT_MS - 60_000, "a1\0firing\x000\0email")
    assert rendered(phase="recovery").request["in_reply_to"] == f"<{rule_key}@example.com>"
    assert "in_reply_to" not in rendered().request


THREADS = [
    # actions, the recovery's action, which of the actions it answers
    ([("a", "x"), ("b", "x")], ("b", "x"), 1),
    ([("a", "x"), ("a", "y")], ("a", "y"), 1),
    ([("a", "x"), ("a", "y")], ("a", None), 0),
    ([("a", "x"), ("b", "y")], ("c", None), 0),
]


@pytest.mark.parametrize(("told", "recovery", "answered"), THREADS)
def test_which_of_several_mails_a_recovery_answers(told: list[Any], recovery: Any, answered: int) -> None:
    def mail(to: str, cc: str | None) -> Action:
        return Action(kind="email", spec={"to": (to,)} | ({"cc": (cc,)} if cc else {}))

    log = Action(kind="log", spec={"message": "x"})
    rule = Rule(
        name="r",
        triggers=("offline",),
        actions=(log, *(mail(*one) for one in told)),
        on_recovery=(log, mail(*recovery)),
    )
    about: dict[str, Any] = {"id": "a", "decision": "a", "client": "c", "lane": "l", "variables": {}}
    firing = planned_deliveries(rule, "firing", Notification(**about), 5)
    _, found = planned_deliveries(rule, "recovery", Notification(**about, first_sent_ms=5), 9)
    assert found.reply_to == firing[1 + answered].key
    assert all(one.reply_to is None for one in firing)


@pytest.mark.parametrize("name", [*SHIPPED, None])
@pytest.mark.parametrize("phase", ["firing", "recovery"])
@pytest.mark.parametrize("about", ["client", "feed", "many", "outage"])
def test_the_shipped_templates_fit_every_alert(name: str | None, phase: str, about: str) -> None:
    state = "firing" if phase == "firing" else "resolved"
    clients = [f"G@@@p{number}" for number in range(130)]
    seen = {
        "client": variables(state=state, attributes={"site": "north", "empty": ""}),
        "feed": about_feed(),
        "many": variables(state=state, count=130, clients=clients, key={"group": "G"}),
        "outage": {
            **about_feed(),
            "alert": variables(count=0, clients=[], total=418, back=412, key={"site": "x"})["alert"],
        },
    }[about]
    found = rendered(seen, phase=phase, clients=tuple(clients) if about == "many" else None, template=name)
    if about == "outage" and name in {"firing", "recovery"}:
        return  # they are about one client or one source
    assert found.problem is None
    if name is None or (name == "clients") == (about in {"many", "outage"}):
        wanted = {"client": "G@@@p1", "feed": "broker", "many": "G@@@p99", "outage": "412 of 418"}[about]
        assert wanted in found.request["text"] and wanted in found.request["html"]
    assert "empty" not in found.request["text"]


def test_a_long_list_is_cut_and_counted() -> None:
    clients = [f"G@@@p{number}" for number in range(50_000)]
    found = rendered(variables(count=50_000, clients=clients), clients=tuple(clients))
    assert found.problem is None
    assert "G@@@p99" in found.request["text"] and "G@@@p100" not in found.request["text"]
    for form in ("text", "html"):
        assert "and 49900 more" in found.request[form]
    whole = rendered(variables(count=50_000, clients=clients), text="{{ alert.clients|length }} of {{ alert.count }}")
    assert whole.request["text"] == f"{MAX_LISTED} of 50000"


FAILURES = [
    ({"subject": "{{ client.attributes.nothing }}"}, "subject"),
    ({"text": "{{ 1 // 0 }}"}, "text"),
    ({"html": "<b>{{ 1 // 0 }}</b>"}, "html"),
    ({"text": "fine", "html": "{% for x in range(1000) %}{% for y in range(1000) %}x{% endfor %}{% endfor %}"}, "html"),
    ({"text": "{% for x in range(1000) %}{{ '%999s'|format('x') }}{% endfor %}"}, "text"),
]


@pytest.mark.parametrize(("spec", "part"), FAILURES)
def test_a_template_that_fails_never_loses_the_page(spec: dict[str, Any], part: str) -> None:
    found = rendered(**spec)
    assert found.dead is None and found.problem is not None and found.problem.startswith(f"{part}: ")
    assert found.request["template_error"] == found.problem
    assert "p1 is offline" in found.request["subject"] + found.request["text"]
    if part != "subject":
        assert "html" not in found.request and found.problem in found.request["text"]


def test_html_alone_has_a_text_beside_it() -> None:
    request = rendered(html="<h1>{{ client.id }}</h1>").request
    assert request["html"] == "<h1>G@@@p1</h1>" and request["text"].startswith("G@@@p1 is offline.")


def test_one_recipient_that_cannot_be_is_left_out_and_reported() -> None:
    found = rendered(to=("{{ client.attributes.owner }}", OPS), seen=variables(attributes={"owner": "a@b.c, d@e.f"}))
    assert found.request["to"] == [OPS] and found.dead is None
    assert found.problem == "to: `a@b.c, d@e.f` is no e-mail address"


def test_a_mail_without_any_recipient_is_dead_with_the_reason() -> None:
    found = rendered(to=("{{ client.attributes.owner }}",), seen=variables(attributes={"owner": ""}))
    assert found.dead == "there is nobody to write to; to: `{{ client.attributes.owner }}` is empty"


def test_recipients_see_nothing_that_a_device_says() -> None:
    for source in (
        "{{ client.device }}",
        "{{ client.id }}",
        "{{ alert.key.group }}",
        "{{ evidence }}",
        "{{ alert.source }}",
    ):
        seen = variables("a@b.c@@@a@b.c", key={"group": "a@b.c", "client": "a@b.c"}, source="a@b.c")
        assert rendered(seen, to=(source,)).request["to"] == []
    seen = variables(key={"owner": "anna@example.com"})
    assert rendered(seen, to=("{{ alert.key.owner }}",)).request["to"] == ["anna@example.com"]


HOSTILE = st.text(st.sampled_from("ab@.,;:<>\"'\r\n\t \0()[]\\\u2028\u202e=-_é水&") | st.characters(), max_size=60)


@given(HOSTILE, HOSTILE)
def test_nothing_a_device_or_an_inventory_says_adds_a_header_or_a_recipient(device: str, owner: str) -> None:
    seen = variables(f"G@@@{device}", attributes={"owner": owner})
    spec = {
        "subject": "{{ client.device }} {{ client.attributes.owner }}",
        "text": "{{ client.device }}",
        "html": "<p>{{ client.device }}",
    }
    found = rendered(seen, to=(OPS, "{{ client.attributes.owner }}"), **spec)
    assert found.dead is None and len(found.request["to"]) <= 2
    assert all(is_address(one) for one in found.request["to"])
    raw = message_of(found.request, "pump-offline")
    message = message_from_bytes(raw, policy=default)
    assert set(message.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Rollcall-Rule", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert [one.addr_spec for one in message["To"].addresses] == found.request["to"]
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert len(found.request["subject"]) <= MAX_SUBJECT_CHARACTERS and raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, attrs))


@given(HOSTILE | st.text(st.sampled_from("<script>/&amp;'\"= onload{}%#"), max_size=60))
def test_nothing_a_device_says_is_markup(device: str) -> None:
    def tags(about: str) -> list[tuple[str, Any]]:
        seen = variables(f"G@@@{about}", clients=[about, about], count=2)
        found = []
        for name in SHIPPED:
            parser = _Seen()
            parser.feed(rendered(seen, template=name).request["html"])
            found += parser.tags
        return found

    assert tags(device) == tags("plain")


ESCAPES = [
    "{{ client.device }}", "{{ client.device|e }}", "{{ client.device|upper|lower }}", "{{ '' ~ client.device }}",
    "{{ client.device|replace('&lt;', '<') }}", "{% set x %}{{ client.device }}{% endset %}{{ x }}",
    "{% macro m(v) %}{{ v }}{% endmacro %}{{ m(client.device) }}", "{{ [client.device]|join('') }}",
    "{{ client.device|string }}", "{{ client.device[0:] }}", "{{ '%s'|format(client.device) }}",
    "{{ client.device|tojson }}", "{{ client.device|striptags }}", "{{ client.device|title|lower }}",
]  # fmt: skip


@pytest.mark.parametrize("source", ESCAPES)
def test_no_filter_undoes_the_escaping(source: str) -> None:
    html = rendered(variables("G@@@<i>&lt;b&gt;"), html=source, text="x").request["html"]
    assert "<" not in html and ">" not in html


ADDRESSES = [
    ("ops@example.com", True), ("root@localhost", True), ("a.b+c@x-y.example", True), ("o'neil@example.com", True),
    ("", False), ("ops", False), ("@example.com", False), ("a@b@c.d", False), ("a b@c.d", False), ("a@b.c,d@e.f", False),
    ("a@b.c\n", False), ("a@b.c\r\nBcc: x@y.z", False), (".a@b.c", False), ("a..b@c.d", False), ("<a@b.c>", False),
    ('"a b"@c.d', False), ("a@[127.0.0.1]", False), ("a@-b.c", False), ("a@b..c", False), ("é@b.c", False),
    ("a" * 65 + "@b.c", False), ("a@" + "b" * 250 + ".c", False), ("a@b.c ", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "good"), ADDRESSES)
def test_what_an_address_is(text: str, good: bool) -> None:
    assert is_address(text) is good


def test_what_a_mailbox_is() -> None:
    assert mailbox("Roll Call <a@b.c>") == ("Roll Call", "a@b.c") and mailbox("a@b.c") == ("", "a@b.c")
    for text in ("Roll, Call <a@b.c>", "x", "a <b>", "a\n <a@b.c>", "<a@b.c>"):
        with pytest.raises(ValueError, match="is not an e-mail address"):
            mailbox(text)
