"""Templates made at random out of the grammar: whatever they are, they end, stay within their bounds, and never raise past the renderer.

`ROLLCALL_FUZZ=100000` tries so many; a normal run tries few.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.rules import Action
from engine.templates.breakouts import JSON, PLAIN, XML, breakout_warnings
from engine.templates.compiler import Compiler, TemplateProblem
from engine.templates.lint import template_problems
from engine.templates.names import names_of
from engine.templates.renderer import Renderer, to_json
from engine.templates.sandbox.filters import FILTERS
from engine.templates.sandbox.jinja_tests import TESTS
from engine.templates.sandbox.meter import MAX_TEXT
from engine.templates.sandbox.operations import TEXT_METHODS

EXAMPLES = int(os.environ.get("ROLLCALL_FUZZ", "150"))
EVIL = '"><script>x</script>\\","routing_key":"EVIL","y":"\\'
SEEN: dict[str, Any] = {
    "client": {"id": f"G@@@{EVIL}", "group": "G", "device": EVIL, "ip": "10.0.0.1", "attributes": {"site": "north"}},
    "status": "offline",
    "duration": 1.5,
    "alert": {
        "id": "a",
        "clients": [f"G@@@d{n}" for n in range(50)],
        "count": 50,
        "key": {},
        "members": [{"id": EVIL}] * 9,
    },
    "rule": {"name": "r", "severity": "info", "labels": {}},
}
NAMES = names_of(columns=("site",), about_many="group", key=())

WORDS = st.sampled_from(
    [
        *(
            "client.id",
            "client",
            "alert.clients",
            "alert.members",
            "alert",
            "status",
            "duration",
            "x",
            "loop",
            "m",
            "caller()",
        ),
        *(
            "'a'",
            "''",
            "'%s'",
            "'%999d'",
            "'<'",
            "1",
            "0",
            "-1",
            "10 ** 60",
            "1.5",
            "[]",
            "{}",
            "none",
            "true",
            "range(999)",
        ),
        *(
            "[1, 'a', [2]]",
            "{'a': 1, 'b': [2]}",
            "'aaaaaaaa' * 9",
            "'%1900000000d'",
            "'spend!'",
            "'upper'",
            "'id'",
            "'0.0'",
        ),
    ]
)
FILTER_NAMES = st.sampled_from(sorted(FILTERS | {"spend!", "attr", "safe", "xmlattr"}))


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions made of smaller ones."""
    arguments = st.lists(inner, max_size=2).map(", ".join)
    signs = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in", "and", "or"])
    return st.one_of(
        st.tuples(inner, FILTER_NAMES, arguments).map(lambda made: f"({made[0]})|{made[1]}({made[2]})"),
        st.tuples(inner, signs, inner).map(lambda made: f"({made[0]}) {made[1]} ({made[2]})"),
        st.tuples(inner, st.sampled_from(sorted(TESTS)), inner).map(
            lambda made: f"({made[0]}) is {made[1]}({made[2]})"
        ),
        st.tuples(
            inner, st.sampled_from([*sorted(TEXT_METHODS), "format", "items", "get", "__class__", "cycle"]), arguments
        ).map(lambda made: f"({made[0]}).{made[1]}({made[2]})"),
        st.tuples(inner, inner).map(lambda made: f"({made[0]})[{made[1]}]"),
        st.tuples(inner, inner, inner).map(lambda made: f"({made[0]} if {made[1]} else {made[2]})"),
        st.tuples(inner, st.sampled_from(["[1:]", "[::-1]", "[:9]", ".id", ".x", "()"])).map(
            lambda made: f"({made[0]}){made[1]}"
        ),
    )


EXPRESSIONS = st.recursive(WORDS, grown, max_leaves=6)
SIMPLE = st.one_of(
    EXPRESSIONS.map(lambda one: "{{ " + one + " }}"),
    st.sampled_from(["text ", "<b>", '{"id": "', '"}', "{# #}"]),
    EXPRESSIONS.map(lambda one: "{% set x = " + one + " %}"),
)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Statements made of smaller ones."""
    around = st.sampled_from(
        [
            *("{{% for x in {0} %}}{1}{{% endfor %}}", "{{% if {0} %}}{1}{{% else %}}{1}{{% endif %}}"),
            *(
                "{{% set x %}}{1}{{% endset %}}",
                "{{% set x|striptags %}}{1}{{% endset %}}",
                "{{% with x = {0} %}}{1}{{% endwith %}}",
            ),
            *(
                "{{% filter replace('a', 'b') %}}{1}{{% endfilter %}}",
                "{{% macro m(x) %}}{1}{{% endmacro %}}{{{{ m({0}) }}}}",
            ),
            *(
                "{{% call m({0}) %}}{1}{{% endcall %}}",
                "{{% for x in range(99) %}}{{% for y in {0} %}}{1}{{% endfor %}}{{% endfor %}}",
            ),
        ]
    )
    return st.one_of(
        st.tuples(around, EXPRESSIONS, inner).map(lambda made: made[0].format(made[1], made[2])),
        st.tuples(inner, inner).map("".join),
    )


TEMPLATES = st.recursive(SIMPLE, nested, max_leaves=5)
EASY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
RENDERER = Renderer()


@EASY
@given(TEMPLATES)
def test_whatever_a_template_is_the_page_goes_out_within_its_bounds(template: str) -> None:
    names = [*template_problems(template, NAMES), *breakout_warnings(template, JSON), *breakout_warnings(template, XML)]
    assert all(isinstance(name, str) and "Traceback" not in name for name in names)
    breakout_warnings(template, PLAIN)
    body = {"key": "K", "text": template, "n": [5, None]}
    spec = {"url": f"http://a.test/{template}", "headers": {"X": template}, "json": body}
    request = RENDERER.render(Action(kind="webhook", spec=spec), SEEN).request
    sent = json.loads(to_json(request))["json"]
    assert (sent["key"], sent["n"]) == ("K", [5, None]) and isinstance(sent["text"], str)
    assert len(sent["text"]) <= MAX_TEXT and not set("\r\n\0") & set(request["headers"].get("X", ""))
    RENDERER.render(Action(kind="log", spec={"message": template}), SEEN)


@EASY
@given(TEMPLATES)
def test_whatever_a_template_is_no_tag_of_a_device_reaches_html(template: str) -> None:
    try:
        text = Compiler().html(template)(SEEN)
    except Exception:  # noqa: BLE001  # most do not compile, or fail
        return
    assert "<script" not in text


@EASY
@given(EXPRESSIONS)
def test_whatever_a_condition_is_it_answers(source: str) -> None:
    template_problems(source, NAMES, expression=True)
    try:
        condition = Compiler().condition(source)
    except TemplateProblem:
        return
    assert condition(SEEN) in (True, False)


@EASY
@given(st.text(st.sampled_from("{}%#|()[]'\".~+-*/<>=!,: \nabcdefimnorstuxy01"), max_size=80))
def test_whatever_characters_stand_in_a_template_it_compiles_or_is_a_problem(source: str) -> None:
    for syntax in (JSON, XML, PLAIN):
        breakout_warnings(source, syntax)
    template_problems(source, NAMES)
    template_problems(source, NAMES, expression=True)
    for kind in ("text", "url", "html"):
        try:
            getattr(Compiler(), kind)(source)
        except TemplateProblem:
            continue
