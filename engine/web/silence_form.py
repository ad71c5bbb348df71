"""The form for a silence: what people type, as the body of the act. Read `silence_body`.

Its fields: `match` has key=pattern pairs, separated by spaces or lines (a value with spaces stands in quotes); `rule` has names of rules or
patterns; `until` is an instant or `for` a duration; `comment` may be empty.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from engine.errors import BadQuestion

NO_COMMENT: Final = "no comment was given"

EVERYTHING: Final = "*"
"""What is typed to silence everything: an empty form must not do that."""

MAX_PAIRS: Final = 100

_LOCAL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?")
"""An instant as a browser writes it, without a zone."""


def silence_body(fields: Mapping[str, str], now_ms: int) -> dict[str, Any]:
    """The body of the act; the author is added by the caller. BadQuestion for what cannot be read."""
    body: dict[str, Any] = {"for": _length(fields, now_ms), "comment": fields.get("comment", "").strip() or NO_COMMENT}
    match, rules = matchers(fields.get("match", "")), fields.get("rule", "").split()
    if not match and not rules and fields.get("match", "").strip() != EVERYTHING:
        raise BadQuestion(
            "say what to silence: clients such as device=cam-* or site=north, or the name of a rule; * alone silences everything"
        )
    body["match"] = match
    if rules:
        body["rule"] = rules
    return body


def matchers(text: str) -> dict[str, list[str]]:
    """The pairs of a text. BadQuestion for a word that is none."""
    if text.strip() == EVERYTHING:
        return {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadQuestion(f"the clients to silence: {error}") from error
    found: dict[str, list[str]] = {}
    for word in words[:MAX_PAIRS]:
        key, equals, pattern = word.partition("=")
        if not equals:  # an id, or the beginning of one
            key, pattern = "client", word if "@@@" in word else f"*{word}*"
        if not key or not pattern:
            raise BadQuestion(f"{word[:60]!r}: write key=pattern, such as device=cam-*")
        found.setdefault(key, []).append(pattern)
    return found


def _length(fields: Mapping[str, str], now_ms: int) -> str:
    until = fields.get("until", "").strip()
    if not until:
        return fields.get("for", "").strip() or "1h"
    if _LOCAL.fullmatch(until):
        until += "+00:00"  # the script sends the instant; without it, the page asks for UTC
    try:
        at = datetime.fromisoformat(until)
    except ValueError as error:
        raise BadQuestion(f"until when: {until[:60]!r} is not an instant such as 2026-03-02T08:00") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    left_ms = int(at.timestamp() * 1000) - now_ms
    if left_ms <= 0:
        raise BadQuestion("until when: that instant is past")
    return f"{left_ms}ms"
