"""What every service says of a message: plain text that is safe to show, in as much room as the service has.

Ids, titles and texts are written by devices and by whoever named them. `clean` makes visible what cannot be seen; what has a meaning in a
service's own syntax is that service's business. `fitted` cuts a text that is too long, and says how many clients it leaves out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

from engine.actions.receivers.base import ACKNOWLEDGED, ESCALATION, RECOVERY, REMINDER, SUMMARY, UPDATE, Message
from engine.core.foreign_text import visible_text

Written = TypeVar("Written")

MAX_LISTED: Final = 50
"""Clients that a chat lists, one a line: a longer list is not read there. The console has all of them."""

MAX_TITLE_CHARS: Final = 300
"""Of a title, where a service names no limit of its own."""

INFO, WARNING, CRITICAL = "info", "warning", "critical"

COLOURS: Final = {INFO: "#2f80ed", WARNING: "#f2a100", CRITICAL: "#d92d20"}
OVER: Final = "#12a150"
"""What is over is green, whatever it was."""

_MARKS: Final = {INFO: "\N{LARGE BLUE CIRCLE}", WARNING: "\N{LARGE ORANGE CIRCLE}", CRITICAL: "\N{LARGE RED CIRCLE}"}
_SAID: Final = {UPDATE: "update", REMINDER: "reminder", ESCALATION: "escalated", ACKNOWLEDGED: "acknowledged",
                RECOVERY: "resolved", SUMMARY: "summary"}  # fmt: skip

_OF_AN_EMOJI: Final = re.compile(
    r"((?<=[\u2190-\u3299\U0001f000-\U0001faff])\ufe0f?(?:\u200d(?=[\u2190-\u3299\U0001f000-\U0001faff]))?)"
)
"""What makes an emoji coloured, or one of two."""


def clean(text: str) -> str:
    r"""One line on which every character can be seen; `\n`, `\u202e` and the like for those that cannot. Emoji stay as they are."""
    if text.isascii() and text.isprintable():
        return text
    parts = _OF_AN_EMOJI.split(text)
    return "".join(visible_text(part) if at % 2 == 0 else part for at, part in enumerate(parts))


def lines_of(message: Message) -> list[str]:
    """The lines of the text, each of them clean, without empty ones at the ends."""
    text = message.text.replace("\r\n", "\n").replace("\t", "    ")
    return [clean(line.rstrip()) for line in text.strip("\n").split("\n")] if text.strip() else []


def title_of(message: Message, limit: int = MAX_TITLE_CHARS) -> str:
    """The title on one line, of at most `limit` characters."""
    return cut(clean(message.title).strip() or clean(message.rule) or "Rollcall", limit)


def marked_title(message: Message, limit: int = MAX_TITLE_CHARS) -> str:
    """The title after a mark that tells severity, and what is over, at a glance: for services without colours."""
    return cut(f"{mark(message)} {title_of(message, limit)}", limit)


def mark(message: Message) -> str:
    """One character in the colour of the message."""
    if message.phase == RECOVERY:
        return "\N{WHITE HEAVY CHECK MARK}"
    return "\N{EYES}" if message.phase == ACKNOWLEDGED else _MARKS.get(message.severity, _MARKS[WARNING])


def colour(message: Message) -> str:
    """The colour of the message, as `#rrggbb`."""
    return OVER if message.phase == RECOVERY else COLOURS.get(message.severity, COLOURS[WARNING])


def footer(message: Message) -> str:
    """What ties the messages of one incident together: severity, phase, rule and the incident's id."""
    said = _SAID.get(message.phase, "")
    if message.acknowledged_by:
        who = f"acknowledged by {cut(clean(message.acknowledged_by), 60)}"
        said = who if message.phase == ACKNOWLEDGED or not said else f"{said}, {who}"
    parts = [message.severity, said, cut(clean(message.rule), 100), f"incident {cut(clean(message.incident), 255)}"]
    return " · ".join(part for part in parts if part)


def links(message: Message) -> list[tuple[str, str]]:
    """The links of a message with their names: the console, the runbook."""
    found = [("Open in Rollcall", web_link(message.link)), ("Runbook", web_link(message.labels.get("runbook", "")))]
    return [(name, link) for name, link in found if link]


def web_link(address: str) -> str:
    """An http or https address in characters that no service gives a meaning; empty for anything else."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            return ""
    except ValueError:
        return ""
    # Percent signs stay: what is encoded already is not encoded twice.
    written = quote(address.encode("utf-8", "replace"), safe="%:/?#@&=+,;$~!.-_")
    return written if len(written) <= MAX_LINK_CHARS else ""


MAX_LINK_CHARS: Final = 500
"""A longer one is left out: it would take the room of the text."""


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and `…`: at most `limit` characters as JavaScript counts them, which is never fewer than any service counts."""
    if len(text) <= limit and units(text) <= limit:
        return text
    kept = text[: max(0, limit - 1)]
    while kept and units(kept) > limit - 1:
        kept = kept[:-1]
    return kept + "…" if limit > 0 else ""


def units(text: str) -> int:
    """How many UTF-16 units a text has: one for most characters, two for those beyond the first 65,536."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def fitted(message: Message, write: Callable[[list[str]], Written], fits: Callable[[Written], bool]) -> Written:
    """What `write` makes of the message's lines: of all of them, or of as many as fit.

    Args:
        message: its text and its clients are what is cut.
        write: makes the service's own form of some lines, escaped, with everything else of the message.
        fits: whether that is within the service's limits.

    Returns: the longest that fits. One that does not even fit without a line is returned all the same.
    """
    whole = _Told(message)
    found = write(whole.lines)
    if fits(found):
        return found
    low, high = 0, whole.size  # `low` fits, as far as anything does; `high` does not
    found = write(whole.within(0))
    while high - low > 1:
        middle = (low + high) // 2
        tried = write(whole.within(middle))
        if fits(tried):
            low, found = middle, tried
        else:
            high = middle
    return found


class _Told:
    """Everything that is to be said: the lines of the text, then the clients, unless the text has them already."""

    def __init__(self, message: Message) -> None:
        text = lines_of(message)
        self._clients = [_spellings(client) for client in message.clients]
        self._count = max(message.count, len(self._clients))
        body = "\n".join(text)
        is_told = self._count <= 1 or not self._clients or all(_place(body, one) >= 0 for one in self._clients[:3])
        listed = [] if is_told else [f"- {clean(client)}" for client in message.clients[:MAX_LISTED]]
        self._all = [*text, *listed]
        self._named: list[int] | None = None
        more = self._count - len(listed)
        self.lines = [*self._all, f"… and {more} more"] if listed and more else self._all
        self.size = sum(len(line) + 1 for line in self.lines)

    def within(self, room: int) -> list[str]:
        """As much as `room` characters hold: whole lines, then the beginning of a line that is alone too long, then what is left out."""
        kept: list[str] = []
        for line in self._all:
            if len(line) + 1 > room:
                break
            kept.append(line)
            room -= len(line) + 1
        missing = self._count - self._named_in(len(kept)) if self._count > 1 else 0
        if not kept and room > 1 and self._all:
            kept.append(cut(self._all[0], room))
        return [*kept, f"… and {missing} more" if missing > 0 else "…"]

    def _named_in(self, lines: int) -> int:
        """How many clients the first so many lines name."""
        if self._named is None:
            body = "\n".join(self._all)
            ends = list(accumulate(len(line) + 1 for line in self._all))
            first = [bisect_right(ends, place) for one in self._clients if (place := _place(body, one)) >= 0]
            counts = Counter(first)
            self._named = [0, *accumulate(counts[line] for line in range(len(self._all)))]
        return self._named[lines]


def _spellings(client: str) -> set[str]:
    """An id as a text may have it: with escapes, or with spaces for what does not fit in a line."""
    return {clean(client), clean(" ".join(_UNFIT_IN_LINE.sub(" ", client).split()))} - {""}


_UNFIT_IN_LINE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def _place(text: str, spellings: set[str]) -> int:
    """Where a text has an id, and not only a longer one that has it in it; -1 when it has not."""
    found = -1
    for client in spellings:
        at = text.find(client)
        while at >= 0:
            before, after = text[max(0, at - 1) : at], text[at + len(client) : at + len(client) + 1]
            if not _of_an_id(before) and not _of_an_id(after):
                found = at if found < 0 else min(found, at)
                break
            at = text.find(client, at + 1)
    return found


def _of_an_id(character: str) -> bool:
    return character.isalnum() or character in ("_", "-", "@") if character else False


def identity(incident: str, limit: int) -> str:
    """The incident's id as a service can hold it: itself, or, when it is too long or has unusual characters, a hash of it."""
    if 0 < len(incident) <= limit and incident.isascii() and incident.isprintable():
        return incident
    return f"rollcall-{sha256(incident.encode('utf-8', 'surrogatepass')).hexdigest()}"


def subject_of(message: Message) -> str:
    """What a message is about, in a few words: its client, or the key of its clients, or its rule."""
    if message.key:
        return ", ".join(f"{clean(name)}={clean(value)}" for name, value in message.key.items())
    if len(message.clients) == 1 and message.count <= 1:
        return clean(message.clients[0])
    return clean(message.rule)
