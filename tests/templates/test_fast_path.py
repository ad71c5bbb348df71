"""Templates that only insert values come out the same with and without the template engine."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.templates.fast_path import MAX_FAST_CHARACTERS, with_fast_path

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "id", "items"]), inner, max_size=3)
    ),
    max_leaves=8,
)
pieces = st.sampled_from(
    [
        "text ",
        "\n",
        "{{ a }}",
        "{{a.b}}",
        "{{ a.id }}",
        "{{ b.a.id -}} ",
        " {{- b }}",
        "{{ missing }}",
        "{{ a._x }}",
        "{# x #}",
        "é",
    ]
)


def marked(value: Any) -> Any:
    """A finalize that shows whether it was called, and for what."""
    return "" if value is None else f"<{value}>"


def both(source: str, variables: dict[str, Any]) -> tuple[object, object]:
    """What the quick and the slow way make of a template, errors included."""
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, finalize=marked)
    slow = environment.from_string(source).render
    quick = with_fast_path(environment.parse(source), marked, slow)
    found: list[object] = []
    for render in (quick, slow):
        try:
            found.append(render(variables))
        except Exception as error:  # noqa: BLE001  # the same failure is the same outcome
            found.append((type(error), str(error)))
    return found[0], found[1]


@given(st.lists(pieces, max_size=6).map("".join), st.dictionaries(st.sampled_from(["a", "b"]), values))
def test_both_ways_agree_in_text_and_in_errors(source: str, variables: dict[str, Any]) -> None:
    quick, slow = both(source, variables)
    assert quick == slow


@pytest.mark.parametrize(
    "source",
    [
        "{{ a | upper }}",
        "{% if a %}x{% endif %}",
        "{{ a ~ b }}",
        "{{ a() }}",
        "{{ a['b'] }}",
        "{{ 1 }}",
        "{{ a.b.c() }}",
    ],
)
def test_whatever_does_more_is_left_to_the_engine(source: str) -> None:
    def slow(variables: object) -> str:
        return ""

    assert with_fast_path(jinja2.Environment().parse(source), marked, slow) is slow


def test_a_long_text_is_left_to_the_engine_which_limits_it() -> None:
    quick = with_fast_path(jinja2.Environment().parse("{{ a }}"), str, lambda variables: "asked")
    assert quick({"a": "x" * MAX_FAST_CHARACTERS}) == "x" * MAX_FAST_CHARACTERS
    assert quick({"a": "x" * (MAX_FAST_CHARACTERS + 1)}) == "asked"
