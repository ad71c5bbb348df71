"""A silence as people ask for one, read and checked; the same words over HTTP and at a prompt. Read `read_silence`.

    {"match": {"group": "GID_PUMP", "device": ["p-*"], "site": "north"}, "for": "2h", "author": "Zoë", "comment": "new pumps"}

Keys of `match` are those of a rule's match: group, device, client, ip, and columns of the inventory, also under `attributes`.
`"match": {}` is everything, feeds included, and must be written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.config.durations import parse_duration
from engine.core.alerting.planned_delivery import stamped
from engine.core.alerting.silences import Silence
from engine.core.rules import Match
from engine.errors import BadQuestion

KEYS = ("match", "for", "author", "comment")
MAX_AUTHOR, MAX_COMMENT = 100, 1_000
"""Characters of a name, and of a reason."""

MAX_OPEN = 1_000
"""Silences at one time: each is looked at whenever an alert is due."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_silence(found: Any, match: Callable[[Sequence[str]], Match], now_ms: int) -> Silence:
    """The silence that an object asks for, from now on. BadQuestion with a sentence when it cannot be.

    `match` makes the value of key=pattern pairs, ValueError for those that cannot be.
    """
    if not isinstance(found, dict):
        raise BadQuestion("a silence is an object with match, for, author and comment")
    for key in found:
        if key not in KEYS:
            raise BadQuestion(f"unknown key {key[:60]!r}; a silence has {', '.join(KEYS)}")
    author, comment = (_text(found, *limit) for limit in (("author", MAX_AUTHOR), ("comment", MAX_COMMENT)))
    if not isinstance(found.get("match"), dict):
        raise BadQuestion('`match` is missing: write {"group": "GID_PUMP"}, or {} for everything')
    try:
        length_ms = parse_duration(str(found.get("for", "")))
    except ValueError as error:
        raise BadQuestion(f"`for` {error}") from error
    if length_ms == 0:
        raise BadQuestion("`for` must be longer than 0")
    try:
        wanted = match(list(_pairs(found["match"])))
    except ValueError as error:
        raise BadQuestion(f"`match`: {error}") from error
    id_ = stamped(now_ms, "\0".join(("silence", author, comment, repr(wanted), str(length_ms))))
    return Silence(id=id_, match=wanted, from_ms=now_ms, until_ms=now_ms + length_ms, author=author, comment=comment)


def read_object(body: bytes) -> Any:
    """A body of JSON; nothing is an empty object. BadQuestion when it is none."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadQuestion(f"the body is no JSON: {error}") from error


def name_of(found: Any, key: str) -> str:
    """A name in an object that may be left out, such as who acknowledges. BadQuestion when it cannot be one."""
    if not isinstance(found, dict) or not set(found) <= {key}:
        raise BadQuestion(f"the body must be an object with at most `{key}`")
    return _text(found, key, MAX_AUTHOR) if key in found else ""


def _text(found: Mapping[str, Any], key: str, most: int) -> str:
    text = found.get(key)
    if not isinstance(text, str) or not text.strip():
        raise BadQuestion(f"`{key}` is missing: a silence says who and why" if key != "by" else "`by` must be a name")
    if len(text) > most or _CONTROL.search(text):
        raise BadQuestion(f"`{key}` must be one line of at most {most} characters")
    return text.strip()


def _pairs(match: Mapping[str, Any]) -> Iterator[str]:
    """key=pattern pairs of a `match`."""
    for key, value in match.items():
        if key == "attributes" and isinstance(value, dict):
            yield from _pairs({f"attributes.{column}": patterns for column, patterns in value.items()})
            continue
        patterns = value if isinstance(value, list) else [value]
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(f"`{key[:60]}` must be a pattern or a list of patterns")
        yield from (f"{key}={pattern}" for pattern in patterns)
