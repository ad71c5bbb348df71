"""What a template prints is a value's text or an error, never what only Python knows of an object."""

from __future__ import annotations

import re

import pytest

from engine.templates.compiler import Compiler
from engine.templates.lint import template_problems
from engine.templates.names import names_of

NAMES = names_of(columns=("site",), about_many="group", key=("group",))
CLIENT = {"id": "G@@@a", "group": "G", "device": "a", "ip": "1.1.1.1", "attributes": {"site": "n"}}
VARIABLES = {"client": CLIENT, "alert": {"members": [CLIENT], "clients": ["G@@@a"], "key": {}, "count": 1}}
INTERNAL = re.compile(
    r"object at|0x[0-9a-f]{6}|<(class|function|bound|built-in|generator|Macro|Loop|Template)", re.IGNORECASE
)

MACRO = "{% macro m() %}x{% endmacro %}"
LOOP = "{% for x in [1] %}"
MISTAKES = [
    f"{MACRO}{{{{ m }}}}", f"{MACRO}{{{{ m|string }}}}", f"{MACRO}{{{{ [m]|join }}}}", f"{MACRO}{{{{ 'a' ~ m }}}}",
    f"{LOOP}{{{{ loop }}}}{{% endfor %}}", f"{LOOP}{{{{ loop|string }}}}{{% endfor %}}",
    f"{LOOP}{{{{ loop.cycle|upper }}}}{{% endfor %}}", "{{ client.id.upper }}", "{{ client.id.upper|string }}",
    "{{ [client.id.upper] }}", "{{ (client.id.upper,)|string }}", "{{ {'a': client.id.upper} }}",
    "{{ '%s'|format(client.id.upper) }}", "{{ '%r'|format(range) }}", "{{ client.id ~ client.id.upper }}",
    "{{ range|string }}", "{{ {'a': range} }}", "{{ self }}", "{{ self|string }}", "{{ client.id.upper|trim }}",
    "{{ 'x'|replace('x', client.id.upper) }}", "{{ client.items|string }}", "{{ alert.clients.count|title }}",
]  # fmt: skip
FAIL_LATER = [
    "{% macro m() %}{{ caller|string }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m(f) %}{{ f|string }}{% endmacro %}{{ m(client.id.upper) }}",
    "{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(a=client.id.upper) }}",
    "{{ [['a']|map('upper')]|string }}",
    "{% set u = client.id.upper %}{{ u|string }}",
    "{{ missing|default(client.id.upper)|string }}",
]
CLEAN = [
    ("{{ [1]|map('string')|string }}", "['1']"),
    ("{{ '%s'|format([1]|map('string')) }}", "['1']"),
    ("{{ range(3) }}", "[0, 1, 2]"),
    ("{{ range(3)|string }}", "[0, 1, 2]"),
    ("{{ alert.clients|string }}", "['G@@@a']"),
    ("{{ client.attributes|string }}", "{'site': 'n'}"),
    ("{{ client.attributes.items()|string }}", "[('site', 'n')]"),
    ("{{ client.attributes|items|string }}", "[('site', 'n')]"),
    ("{{ 'a' ~ 1 ~ alert.clients }}", "a1['G@@@a']"),
    ("{{ none|string }}", "None"),
    ("{{ [1, 2]|map('string')|join('-') }}", "1-2"),
    (MACRO + "{{ m() ~ m()|upper }}", "xX"),
    ("{% macro two(f) %}{{ f() }}{% endmacro %}" + MACRO + "{{ two(m) }}", "x"),
    (LOOP + "{{ loop.index ~ loop.cycle('a', 'b') }}{% endfor %}", "1a"),
]  # fmt: skip


def printed(source: str) -> list[str]:
    """The text in each of the three ways of escaping; an error's text where there is one."""
    compiler, found = Compiler(), []
    for compiled in (compiler.text, compiler.html, compiler.url):
        try:
            found.append(compiled(source)(VARIABLES))
        except Exception as error:  # noqa: BLE001  # its text is what is looked at
            found.append(str(error))
    return found


@pytest.mark.parametrize("source", MISTAKES)
def test_an_internal_object_that_is_made_a_text_is_a_mistake_when_loaded_and_never_printed(source: str) -> None:
    assert template_problems(source, NAMES)
    assert not any(INTERNAL.search(text) for text in printed(source))


@pytest.mark.parametrize("source", FAIL_LATER)
def test_what_only_shows_when_rendered_is_an_error_then(source: str) -> None:
    assert all("printed" in text and not INTERNAL.search(text) for text in printed(source))


@pytest.mark.parametrize(("source", "text"), CLEAN)
def test_values_are_printed_as_before(source: str, text: str) -> None:
    assert list(template_problems(source, NAMES)) == []
    assert printed(source)[0] == text
