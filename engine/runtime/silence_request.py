"""A silence as an operator asks for one, checked and turned into the value that the core keeps. Read `read_silence`.

    {"match": {"group": "GID_PUMP", "device": ["p-*"], "site": "north"}, "rule": "pump-*", "from": "2026-03-01T22:00:00Z",
     "for": "2h", "author": "Zoë", "comment": "new pumps"}

The keys of `match` are those of a rule's match: group, device, client, ip, and columns of the inventory, also under `attributes`; and `source`
and `target`, for alerts that are about one. `rule` (also inside `match`) names rules, by patterns. Without `rule`, `"match": {}` silences
everything, alerts about sources included, and must be written out. `from`: an instant, or a duration from now; without it, now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from engine.config.durations import parse_duration, parse_rfc3339
from engine.config.matcher_arguments import MAX_MATCHERS
from engine.config.patterns import MAX_PROGRAM_OF_REQUEST, compile_patterns, problem_of, program_size
from engine.config.schema import did_you_mean
from engine.core.alerting.planned_delivery import stamped
from engine.core.alerting.silence_coverage import Covered
from engine.core.alerting.silences import SUBJECTS, Silence
from engine.core.rules import Match
from engine.core.times import duration_text, rfc3339
from engine.errors import BadQuestion

MAX_AUTHOR, MAX_COMMENT = 100, 1_000
"""Characters of a name, and of a comment."""

LATE_MS = 60_000
"""A `from` that is past by less begins now: clocks differ, and requests take time."""

LONGEST_PLAN_MS = 366 * 86_400_000
"""How far ahead a silence may be planned: beyond is a typing error."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_silence(
    wanted: Mapping[str, object], match_of_pairs: Callable[[Sequence[str]], Match], now_ms: int
) -> Silence:
    """The silence that an operator asks for at `now_ms`. BadQuestion, naming the key, when a value is invalid.

    `wanted` has the keys match, rule, from, for, author and comment; `match_of_pairs` turns key=pattern pairs into a match and raises
    ValueError for an invalid one.
    """
    author = one_line("author", wanted.get("author"), MAX_AUTHOR)
    comment = one_line("comment", wanted.get("comment"), MAX_COMMENT)
    match, rules = wanted.get("match"), _patterns_of_rules(wanted.get("rule"), "rule")
    if match is None and rules:
        match = {}
    if not isinstance(match, Mapping):
        raise BadQuestion(
            '`match` is missing: write {"group": "GID_PUMP"}, or {} to silence everything; or name rules in `rule`'
        )
    if "rule" in match:
        rules += _patterns_of_rules(match["rule"] or [], "match`, `rule")
    length_ms = _length_ms(wanted.get("for"))
    from_ms = _beginning_ms(wanted.get("from"), now_ms)
    try:
        found = match_of_pairs(list(_pairs({key: value for key, value in match.items() if key != "rule"})))
    except ValueError as error:
        raise BadQuestion(f"`match`: {error}") from error
    planned = from_ms > now_ms
    about = ["silence", author, comment, repr(found), str(length_ms)]
    if rules or planned:
        about += [repr(rules), str(from_ms)]
    return Silence(
        id=stamped(now_ms, "\0".join(about)),
        match=found,
        rules=rules,
        from_ms=from_ms,
        until_ms=from_ms + length_ms,
        author=author,
        comment=comment,
        planned=planned,
    )


def _patterns_of_rules(wanted: object, key: str) -> tuple[str, ...]:
    """The patterns of a `rule`: one or a list; none when it is not given. BadQuestion for one that can name no rule."""
    if wanted is None:
        return ()
    given: list[object] = wanted if isinstance(wanted, list) else [wanted]
    patterns = [pattern for pattern in given if isinstance(pattern, str) and pattern]
    if not given or len(patterns) < len(given):
        raise BadQuestion(f"`{key}` must be the name of a rule, or a pattern such as pump-*, or a list of them")
    if len(patterns) > MAX_MATCHERS:
        raise BadQuestion(f"`{key}` has {len(patterns)} patterns, but at most {MAX_MATCHERS} are allowed")
    for pattern in patterns:
        if problem := problem_of(pattern):
            raise BadQuestion(f"`{key}`: `{pattern[:100]}` {problem}")
    if program_size(patterns) > MAX_PROGRAM_OF_REQUEST:
        raise BadQuestion(f"`{key}`: the patterns are too large together: use smaller counts in `{{...}}`")
    return tuple(dict.fromkeys(patterns))


def _beginning_ms(wanted: object, now_ms: int) -> int:
    """When a silence begins: now, at an instant, or so long from now. BadQuestion for an instant that is past, or far away."""
    if wanted is None:
        return now_ms
    text = wanted.strip() if isinstance(wanted, str) else ""
    try:
        from_ms = now_ms + parse_duration(text)
    except ValueError:
        try:
            from_ms = parse_rfc3339(text)
        except ValueError as error:
            raise BadQuestion(f"`from` {error}; or write a duration from now, such as 2h") from error
    if from_ms < now_ms - LATE_MS:
        raise BadQuestion(f"`from` is {rfc3339(from_ms)}, which is past: leave it out to begin now")
    if from_ms > now_ms + LONGEST_PLAN_MS:
        raise BadQuestion(f"`from` is {rfc3339(from_ms)}: plan at most {duration_text(LONGEST_PLAN_MS)} ahead")
    return max(from_ms, now_ms)


def silence_warnings(silence: Silence, covered: Covered, rules: Sequence[str]) -> list[str]:
    """What is probably not meant with a silence, as sentences; `rules`: the names of those in force."""
    found = []
    for pattern in silence.rules:
        compiled = compile_patterns([pattern])
        if not any(compiled.matching(name) for name in rules):
            found.append(f"no rule that is loaded matches `rule={pattern[:100]}`{did_you_mean(pattern, rules)}")
    is_about_others = silence.match == Match() or any(column in SUBJECTS for column, _ in silence.match.attributes)
    if not covered.clients and not covered.alerts and not (covered.rules and is_about_others and silence.rules):
        found.append("it covers no client that is known and no open alert")
    return found


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
