"""Patterns that look like something else: a negation, a regular expression, a list, quotes that a word processor made.

As a glob each of them is valid and matches next to nothing, so a rule would silently never fire. An id may really contain such
characters: a pattern that matches an id or a value of the inventory is taken as it stands, and `re:` says anything. Read `mistaken_for`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from engine.config.inventory import Inventory
from engine.config.known_names import values_of
from engine.config.patterns import EXPRESSION, compile_patterns, is_prefix
from engine.core.rules import Match

_CURLY: Final = "“”„‟‘’‚‛«»"
_EXPRESSION: Final = re.compile(
    r"^\^|\$$|^/.+/$|\\[dwsDWSbB.]|\.\+|\[[^\]]+\][+{]|\([^()]*\|[^()]*\)|\.\*\$?.|\{[0-9]+(?:,[0-9]*)?\}"
)
"""What only a regular expression has; `.*` at the end may be a dot and a glob."""
_PREFIX: Final = re.compile(r"(?i:re|regexp?)\s*[:=]\s*|=~\s*")
"""How other tools announce a regular expression."""


def mistaken_for(
    field: str, pattern: str, values: Callable[[], Iterable[str]] = tuple, *, in_request: bool = False
) -> str | None:
    """What a pattern seems to be that it is not, and what to write instead; None when nothing seems wrong.

    `field`: group, device, client or an attribute. `values`: ids or values that the inventory names, in full: what matches one of them
    is meant. They are asked for only when something seems wrong. `in_request`: it stands in a request, where no `condition` is.
    """
    if pattern.startswith(EXPRESSION) or (found := _mistake(field, pattern, in_request)) is None:
        return None
    compiled = compile_patterns([pattern])
    return None if any(compiled.matching(value) for value in values()) else found


def mistaken_patterns(match: Match, inventory: Inventory) -> Iterator[tuple[Match, str]]:
    """Each pattern of a request's `match` that seems to be something else: a match of it alone, and what to write instead.

    The caller knows more ids than the inventory names: what matches one of them is meant.
    """
    named = {field: patterns for field in ("group", "device", "client") if (patterns := getattr(match, field))}
    columns = {column: patterns for column, patterns in match.attributes if column in inventory.columns}
    for field, patterns in (named | columns).items():
        for pattern in patterns:
            if found := mistaken_for(field, pattern, partial(values_of, inventory, field), in_request=True):
                alone = Match(**{field: (pattern,)}) if field in named else Match(attributes=((field, (pattern,)),))
                yield alone, f"`{field}={pattern[:100]}` {found}"


def _mistake(field: str, pattern: str, in_request: bool) -> str | None:
    stripped = pattern.strip()
    each = " (`--match` once for each)" if in_request else ""
    if stripped[:1] in _CURLY or stripped[-1:] in _CURLY:
        return f"has quotes of a word processor, which are part of the pattern: write `{stripped.strip(_CURLY)[:60]}`"
    if len(stripped) > 2 and stripped[0] in "'\"`" and stripped[-1] == stripped[0]:
        return f"has quotes inside quotes, which are part of the pattern: write `{stripped[1:-1][:60]}`"
    if stripped.startswith("!"):
        instead = "name those that are meant" if in_request else f"write {_excluded(field, stripped[1:].strip())}"
        return f"`!` does not exclude anything in a pattern: {instead}"
    if prefix := _PREFIX.match(stripped):
        return f"seems to be a regular expression: write `{EXPRESSION}{_bare(stripped[prefix.end() :])[:100]}`{_escape_hint(stripped)}"
    if _EXPRESSION.search(stripped):
        return f"seems to be a regular expression: write `{EXPRESSION}{_bare(stripped)[:100]}`{_escape_hint(stripped)}"
    if re.fullmatch(r"[^{}]*\{[^{}]*,[^{}]*\}[^{}]*", stripped):
        begin, _, rest = stripped.partition("{")
        inside, _, end = rest.partition("}")
        return f"`{{…,…}}` means nothing in a glob: write a list, {_list(f'{begin}{one.strip()}{end}' for one in inside.split(','))}{each}"
    if "|" in stripped:
        parts = [part.strip() for part in stripped.split("|")]
        return f"`|` means nothing in a glob: write a list, {_list(parts)}{each}, or `{EXPRESSION}{_alternatives(parts)}`{_escape_hint(stripped)}"
    if "," in stripped:
        return f"is one pattern, not several: write a list, {_list(part.strip() for part in stripped.split(','))}{each}{_escape_hint(stripped)}"
    return None


def _bare(expression: str) -> str:
    """A regular expression for a full match: without anchors, and open where only the other end had one."""
    if len(expression) > 2 and expression[0] == expression[-1] == "/":
        expression = expression[1:-1]
    begins, ends = expression.startswith("^"), expression.endswith("$")
    found = expression.removeprefix("^").removesuffix("$")
    if begins != ends:
        found = f"{found.removesuffix('.*')}.*" if begins else f".*{found.removeprefix('.*')}"
    return found


def _alternatives(parts: list[str]) -> str:
    return "|".join(part.replace(".", "\\.").replace("*", ".*").replace("?", ".") for part in parts if part)[:100]


def _list(parts: Iterable[str]) -> str:
    return f"[{', '.join(part for part in parts if part)[:100]}]"


def _excluded(field: str, pattern: str) -> str:
    """A condition for what a negated pattern meant."""
    place = (
        f"client.{field}"
        if field in {"group", "device"}
        else "client.id"
        if field == "client"
        else f"client.attributes.{field}"
    )
    if is_prefix(pattern) and pattern != "*":
        return f"`condition: not {place}.startswith({pattern[:-1][:60]!r})`"
    if not re.search(r"[*?\[]", pattern):
        return f"`condition: {place} != {pattern[:60]!r}`"
    return f"a `condition`, such as `not {place}.startswith('x')`"


def _escape_hint(pattern: str) -> str:
    escaped = re.sub(r"([|,^$\\(){}.+])", r"\\\1", pattern) if "*" not in pattern and "?" not in pattern else ""
    return f"; if it is an id as it stands, write `{EXPRESSION}{escaped[:100]}`" if escaped else ""


def dot_remark(pattern: str, values: Callable[[], Iterable[str]] = tuple) -> str | None:
    """Why `.*` in a glob is probably not what is meant; None when it matches something."""
    if ".*" not in pattern or pattern.startswith(EXPRESSION):
        return None
    compiled = compile_patterns([pattern])
    if any(compiled.matching(value) for value in values()):
        return None
    return f"`.*` is a dot and anything in a glob: write `{EXPRESSION}{pattern[:100]}` for a regular expression, or `{pattern.replace('.*', '*')[:100]}`"
