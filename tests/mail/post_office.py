"""A real SMTP server on the loopback: keeps what it takes, and refuses, puts off, stalls or drops as a test wants."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.acceptance.service import PATIENCE_S, free_port, requires

Says = str | None
"""An SMTP answer such as `450 later`; None: yes."""

DROP = "drop"
"""In place of an answer: the connection is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message that the server took."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    connection: int
    encrypted: bool
    login: str | None
    helo: str  # what the client called itself

    @property
    def message(self) -> EmailMessage:
        """The same, taken apart."""
        return message_from_bytes(self.raw, policy=default)

    def header(self, name: str) -> str:
        return str(self.message[name])

    def text(self, kind: str = "plain") -> str:
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


@dataclass(slots=True)
class Manners:
    """What the server says; may be changed at any time. `after_message`: what it does when it has the whole message."""

    to_sender: Callable[[str], Says] = lambda sender: None
    to_recipient: Callable[[str], Says] = lambda recipient: None
    to_message: Callable[[Letter], Says] = lambda letter: None
    stall: threading.Event | None = None  # wait for this before answering a message
    logins: dict[str, str] = field(default_factory=dict)


class PostOffice:
    """Listens on one port over as many lives as a test wants. `security`: plain, starttls or tls."""

    def __init__(self, security: str = "plain", certificate: Path | None = None, logins: dict[str, str] | None = None):
        self.port = free_port()
        self.letters: list[Letter] = []
        self.offered: list[Letter] = []  # also those that were refused after the whole message had come
        self.manners = Manners(logins=logins or {})
        self.connections = 0
        self._security = security
        self._certificate = certificate
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = asyncio.Event()
        self._transports: set[asyncio.Transport] = set()

    def start(self) -> None:
        """Listen, on the same port as ever."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S)

    def _run(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        context = None
        if self._certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificate)
        options: dict[str, Any] = {"hostname": "post.test", "ident": "test", "loop": loop, "timeout": 120}
        if self._security == "starttls":
            options["tls_context"] = context
        if self.manners.logins:
            options |= {"authenticator": self._authenticate, "auth_required": True}
            options["auth_require_tls"] = self._security == "starttls"
        office = self

        class Counted(SMTP):
            number = 0

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                if self.number == 0:  # and not once more when it becomes encrypted
                    office.connections += 1
                    self.number = office.connections
                office._transports.add(cast(asyncio.Transport, transport))
                super().connection_made(transport)

        encrypted = context if self._security == "tls" else None
        server = await loop.create_server(lambda: Counted(self, **options), "127.0.0.1", self.port, ssl=encrypted)
        ready.set()
        await self._stopped.wait()
        server.close()
        self._cut()

    def stop(self) -> None:
        """Be gone: connections are cut, new ones are refused."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(PATIENCE_S)

    def _cut(self) -> None:
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    def taken(self) -> list[Letter]:
        with self._lock:
            return list(self.letters)

    def once(self) -> list[Letter]:
        """The same without repetitions: of each Message-ID the first."""
        found: dict[str, Letter] = {}
        for letter in self.taken():
            found.setdefault(letter.header("Message-ID"), letter)
        return list(found.values())

    # What aiosmtpd calls

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        name, password = data.login.decode(), data.password.decode()
        good = self.manners.logins.get(name) == password
        session.login_name = name if good else None
        return AuthResult(success=good, handled=good, message=None if good else f"535 wrong password {password}")

    async def handle_MAIL(self, server: Any, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        said = self.manners.to_sender(address)
        if said is None:
            envelope.mail_from = address
        return said or "250 OK"

    async def handle_RCPT(self, server: Any, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        said = self.manners.to_recipient(address)
        if said is None:
            envelope.rcpt_tos.append(address)
        return said or "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        letter = Letter(
            sender=str(envelope.mail_from),
            recipients=tuple(envelope.rcpt_tos),
            raw=bytes(envelope.original_content or b""),
            connection=server.number,
            encrypted=session.ssl is not None or self._security == "tls",
            login=getattr(session, "login_name", None),
            helo=str(session.host_name),
        )
        with self._lock:
            self.offered.append(letter)
        stall = self.manners.stall
        while stall is not None and not stall.is_set():  # not in a thread: a stop would wait for that
            await asyncio.sleep(0.01)
        said = self.manners.to_message(letter)
        if said == DROP:
            server.transport.abort()
            return "421 gone"
        if said is None:
            with self._lock:
                self.letters.append(letter)
        return said or "250 OK"


@contextmanager
def post_office(security: str = "plain", certificate: Path | None = None, **logins: str) -> Iterator[PostOffice]:
    """A server that listens."""
    made = PostOffice(security, certificate, logins)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def certificate_for(folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate of a name that signs itself: (certificate and key together, certificate alone)."""
    import shutil

    requires("openssl", shutil.which("openssl"))
    key, certificate, both = folder / "key.pem", folder / "ca.pem", folder / "both.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=post.test", "-keyout", str(key),
         "-out", str(certificate), "-addext", f"subjectAltName={kind}:{name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_text(key.read_text() + certificate.read_text())
    return both, certificate
