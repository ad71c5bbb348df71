"""What becomes of an e-mail: taken, refused, put off, lost on the way; and over which connections it goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from engine.actions.base import Attempted, Delivered, OutboxItem, Rejected, RetryLater, Untried
from engine.actions.email.connections import MAX_MESSAGES
from engine.actions.email.message import message_of
from engine.actions.email.sender import MAX_CONNECTIONS, MailSender
from engine.errors import RollcallError
from engine.telemetry import Event
from tests.mail.post_office import DROP, PostOffice, certificate_for, post_office
from tests.written_log import WrittenLog

ONE, OTHER = "one@example.com", "other@example.com"
PASSWORD = "correct horse"

# What the server thinks of itself: it does not count encryption from the first byte on.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


def item(number: int = 1, to: tuple[str, ...] = (ONE,), **more: Any) -> OutboxItem:
    request = {
        "from": "Rollcall <rollcall@example.com>",
        "to": list(to),
        "cc": [],
        "subject": f"pump {number} is offline",
        "text": "it is\n",
        "message_id": f"<{number}@example.com>",
        "date": "Thu, 01 Jan 2026 00:01:30 +0000",
    }
    return OutboxItem(
        id=number,
        key=str(number),
        rule="pump-offline",
        lane="l",
        action="email",
        target="smtp://127.0.0.1:1",
        request=request | more,
        attempts=0,
        decided_at_ms=0,
        phase="firing",
        alert="a",
    )


def sender_to(office: PostOffice, **more: Any) -> MailSender:
    return MailSender(**{"host": "127.0.0.1", "port": office.port, "security": "plain", "timeout_s": 20.0, **more})


def answers(
    sender: MailSender, *items: OutboxItem, before: Callable[[int], object] = lambda turn: None
) -> list[Attempted]:
    """What each item comes to, one after the other."""

    async def send() -> list[Attempted]:
        found = []
        try:
            for turn, one in enumerate(items):
                before(turn)
                found.append(await sender.send(one))
        finally:
            await sender.close()
        return found

    return asyncio.run(send())


def test_the_server_is_told_the_name_of_this_machine_or_the_one_that_is_configured() -> None:
    with post_office() as office:
        assert answers(sender_to(office, helo="rollcall.example.com"), item(1)) == [Delivered()]
        assert answers(sender_to(office), item(2)) == [Delivered()]
        first, second = office.letters
        assert first.helo == "rollcall.example.com" and second.helo not in ("", first.helo)


def test_a_message_arrives_as_it_was_written() -> None:
    html = "<p>" + "long " * 400 + "grüße</p>"
    text = ".\nFrom me\n" + "x" * 3000 + "\n.\n--=_1\n水泵 offline\n"
    with post_office() as office:
        (answer,) = answers(
            sender_to(office),
            item(to=(ONE, OTHER), cc=["boss@example.com"], subject="水泵 is offline " * 10, html=html, text=text, in_reply_to="<0@example.com>"),
        )  # fmt: skip
        assert answer == Delivered()
        (letter,) = office.taken()
    assert letter.sender == "rollcall@example.com"
    assert letter.recipients == (ONE, OTHER, "boss@example.com")
    assert letter.text() == text and letter.text("html") == html + "\n"
    told = {name: letter.header(name) for name in letter.message}
    told.pop("Content-Type"), told.pop("MIME-Version")
    assert told == {
        "From": "Rollcall <rollcall@example.com>",
        "To": f"{ONE}, {OTHER}",
        "Cc": "boss@example.com",
        "Subject": "水泵 is offline " * 10,
        "Date": "Thu, 01 Jan 2026 00:01:30 +0000",
        "Message-ID": "<1@example.com>",
        "In-Reply-To": "<0@example.com>",
        "References": "<0@example.com>",
        "Auto-Submitted": "auto-generated",
        "X-Rollcall-Rule": "pump-offline",
    }
    assert letter.message.get_content_type() == "multipart/alternative"
    assert max(map(len, letter.raw.split(b"\r\n"))) <= 998 and letter.raw.isascii()


def test_the_same_request_makes_the_same_bytes() -> None:
    request = item(html="<b>x</b>").request
    assert message_of(request, "r") == message_of(request, "r")


def test_names_that_programs_compare_are_never_folded_or_encoded() -> None:
    long = "notifications.presence.platform.operations.northern-waterworks.example.com"
    ids: dict[str, Any] = {"message_id": f"<{'0' * 28}@{long}>", "in_reply_to": f"<{'1' * 28}@{long}>"}
    lines = message_of(item(**ids).request, "r" * 100).split(b"\r\n")
    for line in (
        f"Message-ID: {ids['message_id']}",
        f"In-Reply-To: {ids['in_reply_to']}",
        f"References: {ids['in_reply_to']}",
        f"X-Rollcall-Rule: {'r' * 100}",
    ):
        assert line.encode() in lines


def test_many_recipients_and_a_name_of_another_alphabet_survive_the_way() -> None:
    to = tuple(f"a-rather-long-name-{number}@department-of-water.example.com" for number in range(50))
    raw = message_of({**item(to=to).request, "from": "水泵 Wächter <rollcall@example.com>"}, "r")
    message = message_from_bytes(raw, policy=default)
    assert tuple(one.addr_spec for one in message["To"].addresses) == to
    assert [(one.display_name, one.addr_spec) for one in message["From"].addresses] == [
        ("水泵 Wächter", "rollcall@example.com")
    ]
    assert raw.isascii()


def test_one_connection_carries_many_messages_and_not_too_many() -> None:
    with post_office() as office:
        found = answers(sender_to(office), *map(item, range(MAX_MESSAGES + 1)))
        assert set(map(type, found)) == {Delivered}
        assert [letter.connection for letter in office.taken()] == [1] * MAX_MESSAGES + [2]


def test_no_more_connections_than_allowed_are_open_at_once() -> None:
    with post_office() as office:
        office.manners.stall = threading.Event()
        sender = sender_to(office)

        async def send() -> None:
            tasks = [asyncio.create_task(sender.send(item(number))) for number in range(3 * MAX_CONNECTIONS)]
            while len(office.offered) < MAX_CONNECTIONS:
                await asyncio.sleep(0)
            assert office.manners.stall is not None
            office.manners.stall.set()
            assert set(await asyncio.gather(*tasks)) == {Delivered()}
            await sender.close()

        asyncio.run(send())
        assert office.connections == MAX_CONNECTIONS and len(office.taken()) == 3 * MAX_CONNECTIONS


def test_a_connection_that_the_server_ended_meanwhile_costs_no_attempt() -> None:
    with post_office() as office:

        def cut(turn: int) -> None:
            if turn == 1:
                office.stop()
                office.start()

        assert answers(sender_to(office), item(1), item(2), before=cut) == [Delivered(), Delivered()]


REFUSALS = [
    ("sender", "550 you are nobody", Rejected, "the sender was refused: 550 you are nobody"),
    ("sender", "451 later", RetryLater, "the sender was refused: 451 later"),
    ("sender", "530 log in first", RetryLater, "the sender was refused: 530 log in first"),
    ("recipient", "550 no such user", Rejected, f"{ONE}: 550 no such user"),
    ("recipient", "450 greylisted", RetryLater, f"{ONE}: 450 greylisted"),
    ("recipient", "421 too busy", RetryLater, "421 too busy"),
    ("message", "554 looks like spam", Rejected, "the message was refused: 554 looks like spam"),
    ("message", "452 disk full", RetryLater, "the message was refused: 452 disk full"),
]


@pytest.mark.parametrize(("what", "said", "kind", "reason"), REFUSALS)
def test_what_a_refusal_means(what: str, said: str, kind: type, reason: str) -> None:
    with post_office() as office:
        setattr(office.manners, f"to_{what}", lambda _: said)
        (answer,) = answers(sender_to(office), item())
        assert isinstance(answer, kind) and not isinstance(answer, Delivered | Untried)
        assert answer.reason == reason and not getattr(answer, "may_have_arrived", False)
        assert office.taken() == []


def test_a_refused_message_leaves_a_connection_that_can_be_used() -> None:
    with post_office() as office:
        office.manners.to_message = lambda letter: "554 no" if "1@" in letter.header("Message-ID") else None
        first, second = answers(sender_to(office), item(1), item(2))
        assert isinstance(first, Rejected) and second == Delivered()
        assert office.connections == 1


def test_one_refused_recipient_does_not_keep_it_from_the_others(log: WrittenLog) -> None:
    with post_office() as office:
        office.manners.to_recipient = lambda one: "550 no such user" if one == OTHER else None
        (answer,) = answers(sender_to(office), item(to=(OTHER, ONE)))
        assert answer == Delivered(detail=f"not to {OTHER}: 550 no such user")
        assert [letter.recipients for letter in office.taken()] == [(ONE,)]
    line = log.line(Event.EMAIL_PARTLY_REFUSED)
    assert (line["rule"], line["delivery"], line["refused"]) == ("pump-offline", 1, f"not to {OTHER}: 550 no such user")


def test_a_recipient_that_was_put_off_is_tried_again_alone() -> None:
    with post_office() as office:
        tried: list[str] = []

        def judge(recipient: str) -> str | None:
            tried.append(recipient)
            return "450 greylisted" if recipient == OTHER and tried.count(OTHER) < 3 else None

        office.manners.to_recipient = judge
        found = answers(sender_to(office), *[item(to=(ONE, OTHER))] * 3)
        assert found[0] == RetryLater(reason=f"{OTHER}: 450 greylisted", may_have_arrived=True, our_fault=True)
        assert isinstance(found[1], RetryLater) and found[2] == Delivered()
        assert [letter.recipients for letter in office.taken()] == [(ONE,), (OTHER,)]
        assert len({letter.header("Message-ID") for letter in office.taken()}) == 1


@pytest.mark.parametrize("trouble", ["452 disk full", "421 going down", "recipient"])
def test_nobody_counts_as_reached_before_the_message_was_taken(trouble: str) -> None:
    """One recipient is taken, one put off, and then the message itself comes to nothing."""
    with post_office() as office:
        said = iter(["450 greylisted", "421 going down"] if trouble == "recipient" else ["450 greylisted"])
        office.manners.to_recipient = lambda one: next(said, None) if one != ONE else None
        office.manners.to_message = lambda letter: (
            trouble if len(office.offered) == 1 and trouble != "recipient" else None
        )
        third = "third@example.com"
        first, second = answers(sender_to(office), *[item(to=(ONE, OTHER, third))] * 2)
        assert isinstance(first, RetryLater) and not first.may_have_arrived
        assert second == Delivered()
        assert [letter.recipients for letter in office.taken()] == [(ONE, OTHER, third)]


def test_a_recipient_that_is_put_off_and_then_refused_is_told() -> None:
    with post_office() as office:
        said = iter(["450 later", "550 never"])
        office.manners.to_recipient = lambda one: next(said) if one == OTHER else None
        found = answers(sender_to(office), *[item(to=(ONE, OTHER))] * 2)
        assert found[1] == Delivered(detail=f"not to {OTHER}: 550 never")
        assert [letter.recipients for letter in office.taken()] == [(ONE,)]


def test_a_connection_lost_after_the_message_may_have_arrived() -> None:
    with post_office() as office:
        office.manners.to_message = lambda letter: DROP
        (answer,) = answers(sender_to(office), item())
        assert isinstance(answer, RetryLater) and answer.may_have_arrived and not answer.our_fault


def test_a_message_that_nobody_answers_may_have_arrived() -> None:
    with post_office() as office:
        office.manners.stall = threading.Event()
        let_go = office.manners.stall

        def answer_late(turn: int) -> None:
            if turn == 1:
                office.manners.stall = None
                let_go.set()

        answer, other = answers(sender_to(office, timeout_s=2), item(1), item(2), before=answer_late)
        assert answer == RetryLater(reason="no answer to the message within 2 s", may_have_arrived=True)
        # The late answer is not taken for one to something else: that connection is over.
        assert other == Delivered() and [
            one.connection for one in office.taken() if "2@" in one.header("Message-ID")
        ] == [2]


def test_a_message_whose_lease_ended_before_the_server_asked_for_it_is_not_sent() -> None:
    lease = [True]

    def late(recipient: str) -> None:
        lease[0] = False  # the connection, its login and the recipients took their time

    with post_office() as office:
        office.manners.to_recipient = late
        sender = sender_to(office, may_send=lambda: lease[0])
        assert answers(sender, item()) == [Untried()]
        assert office.offered == []
        lease[0], office.manners.to_recipient = True, lambda recipient: None
        assert answers(sender, item()) == [Delivered()] and len(office.taken()) == 1


def test_nobody_listens() -> None:
    (answer,) = answers(sender_to(PostOffice()), item())
    assert isinstance(answer, RetryLater) and not answer.may_have_arrived and not answer.our_fault
    assert answer.reason.startswith("no connection: ")


def test_a_request_that_is_no_message_is_refused_and_not_tried_for_ever() -> None:
    with post_office() as office:
        for broken in ({"to": ["a@b.c\r\nBcc: x@y.z"]}, {"message_id": "<1>\nX: y"}, {"from": 3}):
            (answer,) = answers(sender_to(office), item(**broken))
            assert isinstance(answer, Rejected) and answer.reason.startswith("the request is not a valid e-mail")
        assert office.connections == 0


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_encrypted_and_logged_in(security: str, tmp_path: Path) -> None:
    both, ca = certificate_for(tmp_path)
    with post_office(security, both, rollcall=PASSWORD) as office:
        login = {"username": "rollcall", "password": lambda: PASSWORD}
        (answer,) = answers(sender_to(office, security=security, ca=str(ca), **login), item())
        assert answer == Delivered()
        assert [(letter.encrypted, letter.login) for letter in office.taken()] == [(True, "rollcall")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("why", ["unknown", "other name"])
def test_a_certificate_that_does_not_verify_is_not_trusted(security: str, why: str, tmp_path: Path) -> None:
    both, ca = certificate_for(tmp_path, "127.0.0.1" if why == "unknown" else "mail.example.com")
    with post_office(security, both) as office:
        (answer,) = answers(sender_to(office, security=security, ca=str(ca) if why != "unknown" else None), item())
        assert isinstance(answer, RetryLater) and "certificate verify failed" in answer.reason
        assert office.offered == []


def test_without_starttls_nothing_is_sent_in_the_clear() -> None:
    with post_office() as office:
        (answer,) = answers(sender_to(office, security="starttls"), item())
        assert answer == RetryLater(reason="the server offers no STARTTLS, so nothing was sent")
        assert office.offered == []


def test_a_wrong_password_costs_no_page_and_is_not_shown(tmp_path: Path) -> None:
    both, ca = certificate_for(tmp_path)
    said = iter(["wrong-one", PASSWORD])
    with post_office("tls", both, rollcall=PASSWORD) as office:
        sender = sender_to(office, security="tls", ca=str(ca), username="rollcall", password=lambda: next(said))
        first, second = answers(sender, item(), item())
        assert isinstance(first, RetryLater) and "the login was refused: 535" in first.reason
        assert "wrong-one" not in first.reason and second == Delivered()


def test_a_password_that_is_not_there_is_our_fault() -> None:
    def password() -> str:
        raise RollcallError("the environment variable X is not set")

    with post_office() as office:
        (answer,) = answers(sender_to(office, username="u", password=password), item())
        assert answer == RetryLater(reason="the environment variable X is not set", our_fault=True)
        assert office.connections == 0


def test_a_server_without_logins_is_not_used_when_one_is_configured() -> None:
    with post_office() as office:
        (answer,) = answers(sender_to(office, username="u", password=lambda: PASSWORD), item())
        assert answer == RetryLater(reason="the server does not support a login")


def test_a_server_that_repeats_the_password_is_not_quoted(tmp_path: Path) -> None:
    both, ca = certificate_for(tmp_path)
    with post_office("tls", both, rollcall=PASSWORD) as office:
        said = iter(["550", "450", "550", "550"])
        office.manners.to_recipient = lambda one: f"{next(said)} {PASSWORD}" if one == OTHER else None
        office.manners.to_message = lambda letter: f"554 {PASSWORD}" if len(office.taken()) == 2 else None
        sender = sender_to(office, security="tls", ca=str(ca), username="rollcall", password=lambda: PASSWORD)
        found = answers(sender, item(1, (ONE, OTHER)), item(2, (ONE, OTHER)), item(3, (OTHER,)), item(4))
        assert [type(answer) for answer in found] == [Delivered, RetryLater, Rejected, Rejected]
        assert PASSWORD not in repr(found) and "***" in repr(found)
