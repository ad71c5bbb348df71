"""A silence as an operator asks for one, checked and turned into the value that the core keeps. Read `read_silence`.

    {"match": {"group": "GID_PUMP", "device": ["p-*"], "site": "north"}, "for": "2h", "author": "Zoë", "comment": "new pumps"}

The keys of `match` are those of a rule's match: group, device, client, ip, and columns of the inventory, also under `attributes`.
`"match": {}` silences everything, alerts about sources included, and must be written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from engine.config.durations import parse_duration
from engine.core.alerting.planned_delivery import stamped
from engine.core.alerting.silences import Silence
from engine.core.rules import Match
from engine.errors import BadQuestion

MAX_AUTHOR, MAX_COMMENT = 100, 1_000
"""Characters of a name, and of a comment."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_silence(
    wanted: Mapping[str, object], match_of_pairs: Callable[[Sequence[str]], Match], now_ms: int
) -> Silence:
    """The silence that an operator asks for, from `now_ms` on. BadQuestion, naming the key, when a value is invalid.

    `wanted` has the keys match, for, author and comment; `match_of_pairs` turns key=pattern pairs into a match and raises
    ValueError for an invalid one.
    """
    author = one_line("author", wanted.get("author"), MAX_AUTHOR)
    comment = one_line("comment", wanted.get("comment"), MAX_COMMENT)
    match = wanted.get("match")
    if not isinstance(match, Mapping):
        raise BadQuestion('`match` is missing: write {"group": "GID_PUMP"}, or {} to silence everything')
    length_ms = _length_ms(wanted.get("for"))
    try:
        found = match_of_pairs(list(_pairs(match)))
    except ValueError as error:
        raise BadQuestion(f"`match`: {error}") from error
    id_ = stamped(now_ms, "\0".join(("silence", author, comment, repr(found), str(length_ms))))
    return Silence(id=id_, match=found, from_ms=now_ms, until_ms=now_ms + length_ms, author=author, comment=comment)


def one_line(key: str, text: object, most: int) -> str:
    """A required text of one line, without spaces around it. BadQuestion when it is missing, too long or has several lines."""
    if not isinstance(text, str) or not text.strip():
        raise BadQuestion(f"`{key}` is missing: write one line of text")
    if len(text) > most or _CONTROL.search(text):
        raise BadQuestion(f"`{key}` must be one line of at most {most} characters")
    return text.strip()


def _length_ms(text: object) -> int:
    try:
        length_ms = parse_duration("" if text is None else str(text))
    except ValueError as error:
        raise BadQuestion(f"`for` {error}") from error
    if length_ms == 0:
        raise BadQuestion("`for` must be longer than 0")
    return length_ms


def _pairs(match: Mapping[str, object]) -> Iterator[str]:
    """The key=pattern pairs of a `match`. ValueError for a value that is neither a pattern nor a list of patterns."""
    for key, value in match.items():
        if key == "attributes" and isinstance(value, Mapping):
            yield from _pairs({f"attributes.{column}": patterns for column, patterns in value.items()})
            continue
        patterns = value if isinstance(value, list) else [value]
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(f"`{key[:60]}` must be a pattern or a list of patterns")
        yield from (f"{key}={pattern}" for pattern in patterns)
