"""An e-mail of a message: its subject and its text. It is sent like the e-mails that rules have.

Mail programs put messages of one thread together: the first of an incident has an id that follows from the incident (`thread_id`), and the others
answer to it. The text is plain, so nothing in it is markup; mail programs make links of written-out addresses, which nothing prevents.
"""

from __future__ import annotations

from hashlib import sha256

from engine.actions.receivers.base import Message
from engine.actions.receivers.wording import cut, fitted, footer, links, title_of

SUBJECT_CHARS = 200
MAX_CHARS = 100_000


def subject(message: Message) -> str:
    """The subject: the title."""
    return title_of(message, SUBJECT_CHARS)


def text(message: Message) -> str:
    """The text: what happened, the links, and what ties it to its incident."""
    return fitted(message, lambda lines: _text(message, lines), lambda made: len(made) <= MAX_CHARS)


def thread_id(message: Message, domain: str) -> str:
    """The `Message-ID` that all e-mails of one incident refer to."""
    return f"<incident.{sha256(message.incident.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}@{cut(domain, 200)}>"


def _text(message: Message, lines: list[str]) -> str:
    addresses = [f"{name}: {link}" for name, link in links(message)]
    return "\n".join([*lines, "", *addresses, footer(message), ""])
