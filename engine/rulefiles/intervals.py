"""`active` and `mute` of a rule: windows of local time, and names of time intervals of the configuration.

The windows of a name become part of the rule: an edit of the configuration is an edit of the rule, and a rule that is kept in the
store needs no configuration. Read `with_intervals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.config.matchers import as_tuple
from engine.config.named_intervals import unknown_interval, window_problems, with_windows
from engine.rulefiles.context import RuleContext

KEYS: Final = ("active", "mute")
"""The keys that hold time intervals."""


def with_intervals(context: RuleContext, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rule with windows in place of names. Unknown names and windows that cannot be read are reported, and left out."""
    found = dict(entry)
    for key in KEYS:
        if key not in entry:
            continue
        written, known = entry[key], context.time_intervals or {}
        some = as_tuple(written)
        for index, word in enumerate(some):
            if isinstance(word, str) and context.time_intervals is not None and word not in known:
                context.report((key,) if isinstance(written, str) else (key, index), unknown_interval(word, known))
        broken = dict.fromkeys(path[0] for path, _ in window_problems(some))
        for path, message in window_problems(some):
            context.report((key, *path), message)
        found[key] = with_windows([window for index, window in enumerate(some) if index not in broken], known)
    return found
