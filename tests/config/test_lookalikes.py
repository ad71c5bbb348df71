"""Patterns that seem to be something else: what is said of them where a rule has them, and where a request has them."""

from __future__ import annotations

import pytest

from engine.config.inventory import Inventory
from engine.config.lookalikes import mistaken_for, mistaken_patterns
from engine.core.rules import Match


@pytest.mark.parametrize(
    "pattern", ["!p*", "a*,b*", "{a,b}", "a|b", "^p", "p[0-9]+", "RE:p.*", "regex:p", "=~p.*", "\u201cp\u201d", "'p'"]
)
def test_what_is_no_glob_is_found_in_rules_and_in_requests_alike(pattern: str) -> None:
    assert mistaken_for("device", pattern) is not None
    ((alone, problem),) = mistaken_patterns(Match(group=("G",), device=("p*", pattern)), Inventory((), ()))
    assert alone == Match(device=(pattern,)) and pattern in problem
    assert "condition" not in problem, "a request has none"


def test_a_value_of_the_inventory_is_meant_as_it_stands() -> None:
    inventory = Inventory(columns=("site",), rows=(("G@@@a,b", (("site", "x|y"),)),))
    match = Match(client=("G@@@a,b",), attributes=(("site", ("x|y",)),))
    assert list(mistaken_patterns(match, inventory)) == []
    assert len(list(mistaken_patterns(match, Inventory(columns=("site",), rows=())))) == 2
