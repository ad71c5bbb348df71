"""How large what a rule says may be, aliases of YAML counted as if they were written out. Read `is_oversized`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.config.yamlfile import KeyPath
from engine.rulefiles.context import RuleContext

MAX_ACTION_CHARACTERS: Final = 262_144
"""Most characters of one action: more than any service takes in one request."""

MAX_RULE_CHARACTERS: Final = 1_048_576
"""Most characters of one rule. It is kept in the store, beside the alerts that it opened."""

_OF_A_VALUE: Final = 4
"""Characters that a number, a list or a mapping counts for."""


def is_oversized(context: RuleContext, entry: Mapping[str, Any]) -> bool:
    """Whether an action of a rule, or the rule as a whole, is too large, which is reported. A stored rule was checked before."""
    if context.is_stored:
        return False
    found: list[tuple[KeyPath, int]] = []
    places: list[tuple[KeyPath, Mapping[str, Any]]] = [((), entry)]
    places += [(("escalate", index), step) for index, step in enumerate(entry.get("escalate", ()))]
    for at, holder in places:
        for key in ("actions", "on_recovery"):
            for index, action in enumerate(holder.get(key, ())):
                kind = next(iter(action))
                if is_larger(action[kind], MAX_ACTION_CHARACTERS):
                    found.append(((*at, key, index, kind), MAX_ACTION_CHARACTERS))
    if not found and is_larger(entry, MAX_RULE_CHARACTERS):
        found = [((), MAX_RULE_CHARACTERS)]
    for path, limit in found:
        context.report(
            path, f"is larger than {limit // 1024} KiB, aliases (`*name`) counted as if they were written out"
        )
    return bool(found)


def is_larger(value: Any, limit: int) -> bool:
    """Whether a value of YAML has more characters than `limit`. It stops as soon as that is known."""
    left, waiting = limit, [value]
    while waiting:
        one = waiting.pop()
        left -= len(one) if isinstance(one, str) else _OF_A_VALUE
        if left < 0:
            return True
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one
    return False
