"""What a device says is text in HTML whatever the template does with it; only the template's own text is markup."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.templates.compiler import Compiler

EVIL = "<script>alert(1)</script>"
OTHER = '"&#39;><img src=x onerror=1>&lt;b&gt;'
COMPILER = Compiler()

WAYS = [
    "{{ client.id }}",
    "{{ client.id|e }}{{ client.id|escape|replace('&lt;', '<') }}{{ client.id|forceescape }}",
    "{% filter striptags %}{{ client.id }}{% endfilter %}",
    "{% filter replace('&lt;', '<') %}{{ client.id }}{% endfilter %}",
    "{% filter trim %}{{ client.id }}{% endfilter %}",
    "{% filter upper|lower %}{{ client.id }}{% endfilter %}",
    "{% set x %}{{ client.id }}{% endset %}{{ x }}{{ x|striptags }}{{ x|replace('&lt;', '<') }}{{ x[0:] }}{{ x.strip() }}",
    "{% set x|striptags %}{{ client.id }}{% endset %}{{ x }}",
    "{% set x|replace('&lt;', '<')|replace('&gt;', '>') %}{{ client.id }}{% endset %}{{ x }}",
    "{% set x|join %}{{ client.id }}{% endset %}{{ x }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(client.id) }}{{ m(client.id)|striptags }}{{ m(m(client.id)|striptags) }}",
    "{% macro m() %}{{ caller() }}{{ caller()|striptags }}{% endmacro %}{% call m() %}{{ client.id }}{% endcall %}",
    "{{ client.id ~ client.id }}{{ client.id + client.id }}{{ [client.id]|join }}{{ '%s'|format(client.id) }}",
    "{% set x %}{{ client.id }}{% endset %}{{ x ~ client.id }}{{ x + client.id }}{{ [x, client.id]|join(x) }}",
    "{% set x %}{{ client.id }}{% endset %}{{ x.join([client.id]) }}{{ x.replace('a', client.id) }}{{ '%s'|format(x) }}",
    "{% set x %}{{ client.id }}{% endset %}{{ [x]|map('striptags')|join }}{{ [x]|map('upper')|list|first }}",
    "{% set x %}%s{% endset %}{{ x|format(client.id) }}{{ x.replace('%s', client.id) }}{{ x|replace('%s', client.id) }}",
    "{{ client.id|tojson }}{{ [client.id]|tojson }}{{ [client.id] }}{{ {client.id: 1} }}{{ (client.id,)|string }}",
    "{{ client.id|title }}{{ client.id|urlencode }}{{ client.id|truncate(20) }}{{ client.id|list }}{{ client.id|default(1) }}",
    "{% for c in client.id %}{{ c }}{% endfor %}{{ client.id|map('string')|join }}{{ client.id|sort|join }}",
    "{{ client.nothing|default(client.id) }}{{ client.id if client.id else client.id }}{{ client.id or 1 }}",
]


def html(template: str, device: str) -> str:
    seen: dict[str, Any] = {"client": {"id": device}, "alert": {"clients": [device]}}
    return COMPILER.html(template)(seen)


@pytest.mark.parametrize("template", WAYS)
@pytest.mark.parametrize("device", [EVIL, OTHER, "%s<b>", "&lt;b&gt;", "&amp;lt;b>"])
def test_no_way_of_printing_a_value_makes_markup_of_it(template: str, device: str) -> None:
    text = html(template, device)
    assert not set("<>\"'") & set(text), text


@pytest.mark.parametrize("before", ["", "{% autoescape false %}", "{% autoescape true %}"])
def test_escaping_cannot_be_turned_off(before: str) -> None:
    end = "{% endautoescape %}" if before else ""
    try:
        text = html(before + "{{ client.id }}" + end, EVIL)
    except Exception as error:  # noqa: BLE001  # it does not even compile
        text = str(error)
    assert "<" not in text


def test_what_the_template_writes_is_markup() -> None:
    assert html("<b>{{ client.id }}</b>", "<x>") == "<b>&lt;x&gt;</b>"
    assert html("{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}{{ m(client.id) }}", "<x>") == "<b>&lt;x&gt;</b>"
    assert html("{% set x %}<b>{{ client.id }}</b>{% endset %}{{ x }}", "<x>") == "<b>&lt;x&gt;</b>"
    assert html("{% filter trim %} <b>{{ client.id }}</b> {% endfilter %}", "<x>") == "<b>&lt;x&gt;</b>"
    assert html("{{ client.id|striptags }}", "<b>x &amp; y</b>") == "x &amp; y"


PIECES = st.lists(
    st.sampled_from(
        [
            *("{{ client.id }}", "{% filter striptags %}", "{% endfilter %}", "{% set x %}", "{% endset %}", "{{ x }}"),
            *(
                "{% set x|striptags %}",
                "{% filter replace('&lt;','<') %}",
                "{{ x|striptags }}",
                "{{ x|trim }}",
                "{{ x[1:] }}",
            ),
            *("{% macro x(y) %}", "{% endmacro %}", "{{ x(client.id) }}", "{{ caller() }}", "{% call x(client.id) %}"),
            *(
                "{% endcall %}",
                "{% if x is defined %}",
                "{% endif %}",
                "{{ client.id|default(x)|first }}",
                "{{ x ~ x }}",
            ),
            *("{{ x|default(client.id) }}", "{{ '&lt;i&gt;' }}", "{% for x in [x, client.id] %}", "{% endfor %}"),
            *("{{ x|replace('a', client.id) }}", "{{ x|format(client.id) }}", "{{ (x, client.id)|join(x) }}", "%s"),
        ]
    ),
    max_size=14,
)


@given(PIECES, st.sampled_from([EVIL, OTHER, "%s", "&lt;"]))
def test_no_combination_of_blocks_macros_and_filters_makes_markup_of_a_value(pieces: list[str], device: str) -> None:
    try:
        text = html("".join(pieces), device)
    except Exception:  # noqa: BLE001  # most combinations do not compile
        return
    assert not set("<>\"'") & set(text.replace("<Macro &#39;x&#39;>", "")), text
