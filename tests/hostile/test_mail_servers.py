"""Bad mail servers, each in every way it can be bad: what becomes of the mail, and that nothing else is slowed or told a secret."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine.actions.base import Attempted, Delivered, Rejected, RetryLater
from engine.actions.email.sender import MailSender
from tests.hostile.mail_server import BEHAVIOURS, echoes
from tests.hostile.serving import running
from tests.mail.post_office import certificate_for
from tests.mail.test_sender import item

TIMEOUT_S = 1.5
PASSWORD = "tok/en+9f3A~Zq7"

SAME_CLASS = {"200-everywhere", "200-message", "221-message", "250-greeting", "252-rcpt", "299-mail", "350-data"}
TAKEN = {"good", "greets-in-gbk-well", "idle-flood"} | SAME_CLASS
REJECTED = {
    "550-bytes": r"550 no such user \x9b",
    "550-surrogate": r"550 \xed\xa0\x80 \xff\xfe",
    "511-message": "the message was refused: 511 never",
    "550-controls": r"the message was refused: 550 you\u202e \x1b[31mred",
}
LATER = {
    "greets-in-gbk": r"554 \xb7\xfe\xce\xf1\xc6\xf7",
    "greeting-endless": "Response too long",
    "greeting-dripping": "no answer within 1.5 s",
    "greeting-line": "Response too long",
    "greeting-held": "no answer within 1.5 s",
    "ehlo-endless": "",
    "ehlo-dripping": "no answer within 1.5 s",
    "ehlo-line": "",
    "mail-yes-endless": "the connection was lost",
    "rcpt-endless": "",
    "rcpt-dripping": "no answer within 1.5 s",
    "data-endless": "",
    "data-held": "no answer to the message within 1.5 s",
    "garbage": "it is no mail server",
    "http": "it is no mail server: Malformed SMTP response line: HTTP/1.1 400 Bad Request",
    "code-0": "it is no mail server: what",
    "code-999": "999 what",
    "code-negative": "it is no mail server: what",
    "no-354": "the message got a reply that is neither yes nor no: 250 fine",
    "499-message": "the message was refused: 499 later",
    "100-message": "100 wait",
    "354-message": "354 more",
    "100-data": "the message got a reply that is neither yes nor no: 100 wait",
    "354-mail": "the sender got a reply that is neither yes nor no: 354 go on",
    "354-rcpt": "354 go on",
    "100-greeting": "120 in a minute",
    "100-ehlo": "150 wait",
    "blank": "it is no mail server",
    "421-greeting": "421 too busy",
    "421-mail": "421 closing",
    "421-rcpt": "421 closing",
    "421-message": "421 closing",
    "closes-at-greeting": "no connection",
    "closes-at-ehlo": "no connection",
    "closes-at-mail": "no connection",
    "closes-at-rcpt": "the connection was lost",
    "closes-at-data": "the connection was lost",
    "closes-after-message": "the connection was lost",
    "resets-after-message": "the connection was lost",
}
MAY_HAVE_ARRIVED = {
    "100-message", "354-message", "code-999", "code-negative", "data-held", "data-endless", "closes-after-message", "resets-after-message",
    "closes-at-data",
}  # fmt: skip
ENCRYPTED = {
    "good": None,
    "starttls-250": None,
    "auth-200": None,
    "auth-crammd5-235": None,
    "auth-150": "the server answers the login with something that is no answer",
    "no-starttls": "the server offers no STARTTLS, so nothing was sent",
    "starttls-454": r"454 not now \x9b",
    "starttls-garbage": "",
    "starttls-injects": "",
    "starttls-held": "no answer within 1.5 s",
    "auth-535": "the login was refused: 535 (check `username` and `password`)",
    "auth-closes": "the connection was lost during the login",
    "auth-endless": "",
    "auth-challenge": "",
    "auth-yes-endless": "",
}
LOOPS: list[Callable[[Any], Any]] = [asyncio.run, uvloop.run]


def test_every_behaviour_is_tried() -> None:
    assert TAKEN | REJECTED.keys() | LATER.keys() | ENCRYPTED.keys() == BEHAVIOURS.keys()


def sent(port: int, run: Callable[[Any], Any] = asyncio.run, **more: Any) -> Attempted:
    """The answer to one mail; the whole takes hardly longer than the attempt may."""

    async def go() -> Attempted:
        sender = MailSender(**{"host": "127.0.0.1", "port": port, "security": "plain", "timeout_s": TIMEOUT_S, **more})
        try:
            async with asyncio.timeout(20):
                return await sender.send(item())
        finally:
            await sender.close()

    found: Attempted = run(go())
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate_for(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def ports(certificate: tuple[Path, Path]) -> Iterator[dict[str, int]]:
    with running("tests.hostile.mail_server", str(certificate[0])) as found:
        yield found


@pytest.fixture
def login(certificate: tuple[Path, Path]) -> dict[str, Any]:
    return {
        "security": "starttls", "ca": str(certificate[1]), "username": "rollcall", "password": lambda: PASSWORD,
    }  # fmt: skip


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", sorted(TAKEN | REJECTED.keys() | LATER.keys()))
def test_every_bad_answer_has_its_meaning_and_says_why(
    name: str, run: Callable[[Any], Any], ports: dict[str, int]
) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = sent(ports[name], run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024
    if name in TAKEN:
        assert answer == Delivered()
        return
    kind = Rejected if name in REJECTED else RetryLater
    assert isinstance(answer, kind) and not isinstance(answer, Delivered)
    assert {**REJECTED, **LATER}[name] in answer.reason
    assert answer.reason.isprintable() and len(answer.reason) < 400
    if isinstance(answer, RetryLater):
        assert answer.may_have_arrived == (name in MAY_HAVE_ARRIVED)


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ENCRYPTED)
def test_nothing_is_sent_in_the_clear_when_encryption_or_login_fail(
    name: str, run: Callable[[Any], Any], ports: dict[str, int], login: dict[str, Any]
) -> None:
    answer = sent(ports[name], run, **login)
    words = ENCRYPTED[name]
    if words is None:
        assert answer == Delivered()
    else:
        assert isinstance(answer, RetryLater) and words in answer.reason and not answer.may_have_arrived


@pytest.mark.parametrize("name", sorted(echoes("rollcall", PASSWORD)))
def test_no_text_of_an_answer_to_a_login_is_kept(name: str, ports: dict[str, int], login: dict[str, Any]) -> None:
    answer = sent(ports[f"echo-{name}"], **login)
    assert isinstance(answer, RetryLater)
    assert PASSWORD not in answer.reason
    # Two sentences of ours, whatever it says.
    assert answer.reason in (
        "the login was refused: 535 (check `username` and `password`)",
        "the login was refused: 500 (check `username` and `password`)",
        "the server answers the login with something that is no answer",
        "the connection was lost during the login",
    )


def test_a_server_that_floods_an_idle_connection_is_cut_off(ports: dict[str, int]) -> None:
    """It would keep the event loop of the engine busy until the next mail."""

    async def go(port: int) -> Attempted:
        sender = MailSender(host="127.0.0.1", port=port, security="plain", timeout_s=20)
        answer = await sender.send(item())
        line = next(iter(sender._lines._idle), None)
        async with asyncio.timeout(20):
            while line is not None and line.client.is_connected:
                await asyncio.sleep(0)
        await sender.close()
        return answer

    assert asyncio.run(go(ports["idle-flood"])) == Delivered()
