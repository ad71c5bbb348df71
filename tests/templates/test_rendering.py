"""Templates: what a device says stays data wherever it lands, nothing grows or runs without end, no page is lost."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.rules import Action
from engine.templates.compiler import MAX_OUTPUT_CHARACTERS, Compiler, TemplateProblem
from engine.templates.lint import template_problems
from engine.templates.names import names_of
from engine.templates.rendered import Rendered
from engine.templates.renderer import Renderer, to_json
from engine.templates.secret_markers import conceal

COMPILER = Compiler()
RENDERER = Renderer()

HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "...",
            "%2e%2e",
            "../..",
            "a/b",
            "a?b",
            "a#b",
            "a&b=c",
            "\r\nX-Evil: 1",
            "{{ 7 * 7 }}",
            '"}',
            "\\",
        ]
        + ["\u2028", "\u0085", "@evil.test", "//evil.test", "é", "\U0001f600", "{% for %}", "' OR 1=1 --", "<script>"]
    ),
)
"""What a device might call itself, and more: the wire lets no control characters through."""


def variables(device: str = "d1", **more: Any) -> dict[str, Any]:
    """What templates see, as far as these tests need it."""
    return {
        "client": {
            "id": f"G@@@{device}",
            "group": "G",
            "device": device,
            "ip": "10.0.0.1",
            "attributes": {"site": "north"},
        },
        "status": "offline",
        "occurred_at": "2026-01-01T00:00:00.000Z",
        "alert": {"id": "a1", "state": "firing", "clients": [f"G@@@{device}"], "count": 1, "source": "", "detail": ""},
        "rule": {"name": "dark", "severity": "critical", "labels": {}},
        **more,
    }


def webhook(spec: Mapping[str, Any], seen: Mapping[str, Any] | None = None) -> Rendered:
    """One webhook, rendered."""
    action = Action(kind="webhook", spec={"url": "http://pager.test/hook", **spec})
    return RENDERER.render(action, variables() if seen is None else seen)


def text(template: str, **more: Any) -> str:
    """One text, rendered."""
    return COMPILER.text(template)(variables(**more))


def refusal(template: str, **more: Any) -> str:
    """Why a body was replaced by the default one."""
    rendered = webhook({"body": template}, variables(**more))
    assert rendered.dead is None
    assert rendered.problem is not None
    assert rendered.request["json"]["text"] == "dark: G@@@d1 is offline since 2026-01-01 00:00:00 UTC"
    assert rendered.request["template_error"] == rendered.problem
    return rendered.problem


# What a device says stays data.


@given(HOSTILE)
def test_a_value_in_a_url_is_one_percent_encoded_segment(device: str) -> None:
    rendered = webhook(
        {"url": "http://pager.test/v1/{{ client.device }}/state?of={{ client.device }}"}, variables(device)
    )
    url = urlsplit(rendered.request["url"])
    assert (url.scheme, url.netloc, url.fragment) == ("http", "pager.test", "")
    segments = url.path.split("/")
    assert len(segments) == 4
    assert (segments[1], unquote(segments[2]), segments[3]) == ("v1", device, "state")
    assert url.query == "of=" + segments[2]
    assert set(rendered.request["url"]) <= set(string.ascii_letters + string.digits + "-._~%:/?=")
    assert (rendered.dead is None) == (device not in (".", ".."))
    assert rendered.target == "http://pager.test:80/v1/"  # no value of a device names a target


@pytest.mark.parametrize(
    ("url", "device", "is_dead"),
    [
        ("http://pager.test/{{ client.device }}", "..", True),
        ("http://pager.test/{{ client.device }}/x", ".", True),
        ("http://pager.test/{{ client.device }}?a=1", "..", True),
        ("http://pager.test/{{ client.device }}{{ client.device }}/x", ".", True),  # together they are `..`
        ("http://pager.test/.{{ client.device }}/x", ".", True),
        ("http://pager.test/x{{ client.device }}/x", "..", False),
        ("http://pager.test/{{ client.device }}{{ client.device }}/x", "..", False),  # `....` is a name like any other
        ("http://pager.test/x?of={{ client.device }}", "..", False),
        ("http://pager.test/{{ client.device }}", "...", False),
        ("http://pager.test/a/../{{ client.device }}", "b", False),  # the author's own
    ],
)
def test_a_value_of_dots_that_would_be_a_path_segment_makes_the_delivery_dead(
    url: str, device: str, is_dead: bool
) -> None:
    rendered = webhook({"url": url}, variables(device))
    assert (rendered.dead is not None) is is_dead
    assert "\1" not in rendered.request["url"]
    if is_dead:
        assert "path segment" in str(rendered.dead)


@given(HOSTILE)
def test_a_value_in_a_header_adds_no_line(device: str) -> None:
    value = webhook({"headers": {"X-Client": "c={{ client.device }};"}}, variables(device)).request["headers"][
        "X-Client"
    ]
    assert re.search(r"[\r\n\x01-\x1f\x7f-\x9f\u2028\u2029]", value) is None
    assert value.startswith("c=")
    assert value.endswith(";")
    value.encode()


@given(HOSTILE)
def test_a_value_in_json_stays_inside_its_string(device: str) -> None:
    body = {"text": 'a "{{ client.device }}" b', "deep": [{"x": "{{ client.device }}"}], "n": 5, "yes": True}
    request = webhook({"json": body}, variables(device)).request
    assert json.loads(to_json(request))["json"] == {
        "text": f'a "{device}" b',
        "deep": [{"x": device}],
        "n": 5,
        "yes": True,
    }


@given(HOSTILE)
def test_a_value_is_never_read_as_a_template(device: str) -> None:
    assert text("<{{ client.device }}>", client=variables(device)["client"]) == f"<{device}>"


@given(HOSTILE)
def test_a_log_line_stays_one_line(device: str) -> None:
    action = Action(kind="log", spec={"message": "{{ client.device }} is {{ status }}"})
    message = RENDERER.render(action, variables(device)).request["message"]
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", message) is None


def test_half_a_character_is_replaced_so_that_it_can_be_stored_and_sent() -> None:
    for template in ("{{ '\\ud800' }}!", "\ud800!", "{{ status }}\ud800!", "{% if 1 %}\ud800!{% endif %}"):
        request = webhook({"body": template}).request
        assert request["body"].endswith("?!")
        to_json(request).encode()


# Secrets.


def test_a_secret_is_a_marker_in_headers_and_urls_and_is_never_shown() -> None:
    rendered = webhook(
        {"url": "http://pager.test/{{ secrets.hook }}", "headers": {"Authorization": "Bearer {{ secrets.pager }}"}}
    )
    assert "\0hook\0" in rendered.request["url"] and "\0pager\0" in rendered.request["headers"]["Authorization"]
    shown = conceal(rendered.request)
    assert shown["url"] == "http://pager.test/***"
    assert shown["headers"] == {"Authorization": "Bearer ***"}


def test_a_secret_in_a_body_is_a_marker_too_and_is_never_shown() -> None:
    found = webhook(
        {"json": {"key": "{{ secrets.pager }}", "list": ["k={{ secrets.pager|tojson }}", 7], "id": "{{ client.id }}"}}
    )
    assert "pager" in found.request["json"]["key"] and found.problem is None
    shown = conceal(found.request)["json"]
    assert (shown["key"], shown["list"]) == ("***", ['k="***"', 7])
    assert conceal(webhook({"body": "token={{ secrets.pager }}"}).request)["body"] == "token=***"


def test_an_id_that_looks_like_a_marker_is_no_secret() -> None:
    """`tojson` writes the marker's NUL as an escape, and a device can send the characters of that escape."""
    found = webhook({"body": "{{ '\\\\u0000pager\\\\u0000'|tojson }}"}).request
    assert found["body"] == '"\\\\u0000pager\\\\u0000"'
    assert conceal(found)["body"] == found["body"]


# A failing template never loses the page.


@pytest.mark.parametrize(
    "template",
    [
        "{{ nothing }}",
        "{{ client.nothing.more }}",
        "{{ 1 / 0 }}",
        "{{ client.device.nothing() }}",
        "{{ 'x' + 1 }}",
        "{{ alert.clients[7].x }}",
        "{{ client['__class__'].__mro__ }}",
        "{{ ''.__class__ }}",
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    ],
)
def test_a_body_that_fails_is_replaced_by_a_plain_one_that_says_so(template: str) -> None:
    assert refusal(template).startswith("body: ")


def test_only_the_text_of_a_json_body_that_fails_is_replaced() -> None:
    body = {
        "routing_key": "R0UT1NG",
        "event_action": "{{ 'trigger' if alert.state == 'firing' else 'resolve' }}",
        "dedup_key": "{{ alert.id }}",
        "payload": {
            "summary": "{{ 1 // 0 }}",
            "severity": "{{ rule.severity }}",
            "custom": [1, None, {"x": "{{ nothing }}"}],
        },
    }
    rendered = webhook({"json": body})
    default = "dark: G@@@d1 is offline since 2026-01-01 00:00:00 UTC"
    assert rendered.request["json"] == {
        "routing_key": "R0UT1NG",
        "event_action": "trigger",
        "dedup_key": "a1",
        "payload": {"summary": default, "severity": "critical", "custom": [1, None, {"x": default}]},
    }
    assert rendered.dead is None
    assert rendered.problem == rendered.request["template_error"]
    assert str(rendered.problem).startswith("json.payload.summary: integer division")
    assert "json.payload.custom[2].x: 'nothing' is undefined" in str(rendered.problem)


def test_a_header_that_fails_is_left_out_and_said() -> None:
    rendered = webhook({"headers": {"X-A": "{{ nothing }}", "X-B": "b"}, "body": "fine"})
    assert rendered.request["headers"] == {"X-B": "b"}
    assert rendered.request["body"] == "fine"
    assert "X-A" in str(rendered.problem)


def test_a_url_that_fails_makes_the_delivery_dead_with_the_reason() -> None:
    assert "cannot be rendered" in str(webhook({"url": "http://pager.test/{{ nothing }}"}).dead)


def test_a_log_message_that_fails_is_replaced() -> None:
    rendered = RENDERER.render(Action(kind="log", spec={"message": "{{ nothing }}"}), variables())
    assert rendered.request["message"] == "dark: G@@@d1 is offline since 2026-01-01 00:00:00 UTC"
    assert rendered.problem


def test_a_condition_that_fails_holds() -> None:
    assert COMPILER.condition("client.nothing.more")(variables()) is True
    assert COMPILER.condition("status == 'online'")(variables()) is False
    assert COMPILER.condition("range(1000)|map('string')|join|length > 5 and 9 ** 9 ** 9")(variables()) is True


def test_a_template_that_cannot_be_compiled_is_reported_when_rules_are_loaded() -> None:
    for template in ("{{ ", "{% for %}", "{{ x|nothing }}", "{{ x is nothing }}", "x" * 20_000 + "{{ x }}"):
        with pytest.raises(TemplateProblem):
            COMPILER.text(template)


# Nothing grows, nothing runs, without end.

LONG = "{% set a = 'aaaaaaaaaaaaaaaa' %}" + "{% set a = a ~ a %}" * 13  # 131,072 characters
GROWING = {
    "doubling with ~": LONG + "{% set a = a ~ a %}" * 40 + "{{ a|length }}",
    "doubling with ~ in a loop": "{% for i in range(900) %}{{ ('x' ~ i) ~ alert.clients }}" * 1
    + "{% for j in range(900) %}{{ client.id ~ client.id ~ client.id }}{% endfor %}{% endfor %}",
    "doubling with +": LONG + "{% set a = a + a %}" * 3 + "{{ a|length }}",
    "doubling with a set block": LONG + "{% set a %}{{ a }}{{ a }}{{ a }}{% endset %}{{ a|length }}",
    "a macro that doubles": LONG + "{% macro m() %}{{ a }}{{ a }}{{ a }}{% endmacro %}{{ m()|length }}",
    "replace": LONG + "{{ a|replace('a', a)|length }}",
    "replace of nothing": LONG + "{{ a|replace('', a)|length }}",
    "replace as a method": LONG + "{{ a.replace('a', a)|length }}",
    "join": LONG + "{{ range(1000)|join(a)|length }}",
    "join as a method": LONG + "{{ a.join(range(1000)|map('string'))|length }}",
    "join of long ones": LONG + "{{ [a, a, a, a]|join|length }}",
    "format with a width": "{{ '%1000000000d'|format(1)|length }}",
    "format with a precision": "{{ '%.1000000000f'|format(1.5)|length }}",
    "format with a width of its own": "{{ '%*d'|format(1000000000, 1)|length }}",
    "format by name with a width": "{{ '%(x)1000000000d'|format(x=1)|length }}",
    "format of long ones": LONG + "{{ ('%(x)s' ~ '%(x)s' ~ '%(x)s')|format(x=a)|length }}",
    "format as a method": "{{ '{:>1000000000}'.format(1)|length }}",
    "format_map as a method": "{{ '{x:>1000000000}'.format_map({'x': 1})|length }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "a text times a number": "{{ 'x' * 1000000000 }}",
    "a number times a text": "{{ 1000000000 * 'x' }}",
    "a list times a number": "{{ ([1] * 1000000000)|length }}",
    "padding": "{{ client.id.center(1000000000)|length }}",
    "padding of zeros": "{{ client.id.zfill(1000000000)|length }}",
    "tabs": "{{ '\\t'.expandtabs(1000000000)|length }}",
    "bytes": "{{ client.id.encode().center(1000000000)|length }}",
    "translate": LONG + "{{ a.translate({97: a})|length }}",
    "a number as bytes": "{{ (5).to_bytes(1000000000)|length }}",
    "indented JSON": "{{ {'a': [1]}|tojson(indent=1000000000)|length }}",
    "JSON of the same list many times": "{% set a = ['aaaa'] %}"
    + "{% set a = [a, a] %}" * 40
    + "{{ a|tojson|length }}",
    "a list of itself, printed": "{% set a = ['aaaa'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "a list of itself, joined to text": "{% set a = ['aaaa'] %}" + "{% set a = (a, a) %}" * 40 + "{{ '' ~ a }}",
    "a list of itself, added": "{% set a = [1] %}" + "{% set a = a + a %}" * 40 + "{{ a|length }}",
    "a mapping of itself": "{% set a = {'x': 1} %}" + "{% set a = {'x': a, 'y': a} %}" * 40 + "{{ a }}",
    "tuples of themselves, hashed": "{% set a = (1,) %}" + "{% set a = (a, a) %}" * 40 + "{{ {a: 1}|length }}",
    "lists of themselves, compared": "{% set a = [1] %}{% set b = [1] %}"
    + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
    + "{{ a == b }}",
    "lists added up": "{{ range(1000)|map('list')|sum(start=[])|length }}",
    "squares of squares": "{% set a = 999999 %}" + "{% set a = a * a %}" * 40 + "{{ a > 0 }}",
    "powers of powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "rounding to many digits": "{{ 1.5|round(1000000000, 'ceil') }}",
    "a long range": "{{ range(1000000000)|list|length }}",
    "a long range of steps": "{{ range(0, 1000000000, 2)|list|length }}",
    "ranges in ranges": "{% for i in range(1000) %}{% for j in range(1000) %}{% for k in range(1000) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "ranges in ranges, all left out": "{% for i in range(1000) %}{% for j in range(1000) %}"
    "{% for k in range(1000) if k < 0 %}{% endfor %}{% endfor %}{% endfor %}",
    "much in a loop": LONG + "{% for i in range(1000) %}{% set b = a|upper|lower|title %}{% endfor %}",
    "filters in a loop": LONG + "{% for i in range(1000) %}{{ a|urlencode|length }}{% endfor %}",
    "slices in a loop": LONG + "{% set c = a|list %}{% for i in range(1000) %}{% if c[1:] %}{% endif %}{% endfor %}",
    "sorting in a loop": LONG + "{% for i in range(1000) %}{{ a|sort|length }}{% endfor %}",
    "sorting by an attribute in a loop": "{% set a = [client] * 1000 %}"
    "{% for i in range(1000) %}{{ a|sort(attribute='id')|length }}{% endfor %}",
    "sorting by an attribute again and again": "{% set a = [client] * 1000 %}{{ a|sort(attribute='id' ~ ',id' * 10000)|length }}",
    "splitting in a loop": LONG + "{% for i in range(1000) %}{{ a.split('a')|length }}{% endfor %}",
    "maps over maps": "{% for i in range(1000) %}{{ range(1000)|map('string')|map('upper')|list|length }}{% endfor %}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(60) }}",
    "a call that calls itself twice": "{% macro m(n) %}{% if n %}{% call m(n - 1) %}{% endcall %}{% call m(n - 1) %}"
    "{% endcall %}{% endif %}{{ caller() }}{% endmacro %}{% call m(60) %}{% endcall %}",
    "a recursive loop": "{% for i in range(1000) recursive %}{% if loop.depth < 4 %}{{ loop(range(1000)) }}{% endif %}{% endfor %}",
    "output": "{% for i in range(1000) %}{{ client.id }} is {{ status }} and has been for a while, in words of some length."
    + "x" * 300
    + "{% endfor %}",
    "output of one loop after another": ("{% for i in range(1000) %}" + "x" * 60 + "{% endfor %}") * 20,
}


@pytest.mark.parametrize("template", GROWING.values(), ids=GROWING.keys())
def test_what_would_grow_or_run_without_end_is_refused_and_the_page_goes_out(template: str) -> None:
    assert re.search(r"more than|too (much|long|large)|unsafe|is for|at most|small|not tried", refusal(template))


@pytest.mark.parametrize("template", [one for one in GROWING.values() if len(one) < 1_000])
def test_the_same_in_a_header_and_in_a_url(template: str) -> None:
    rendered = webhook({"headers": {"X": template}, "url": f"http://pager.test/{template}"})
    assert rendered.dead is not None
    assert "X" not in rendered.request["headers"]


def test_every_rendering_has_the_whole_budget() -> None:
    template = COMPILER.text("{% for i in range(1000) %}{% for j in range(40) %}{% endfor %}{% endfor %}done")
    assert [template(variables()) for _ in range(6)] == ["done"] * 6


WORKING = [
    ("{{ client.id }} is {{ status }}", "G@@@d1 is offline"),
    ("{% for c in alert.clients %}{{ loop.index }}/{{ loop.length }} {{ c }}{% if not loop.last %}, {% endif %}{% endfor %}",
     "1/3 a, 2/3 b, 3/3 c"),
    ("{% for c in alert.clients if c != 'b' %}{{ c }}{% else %}nobody{% endfor %}", "ac"),
    ("{% for c in [] %}{{ c }}{% else %}nobody{% endfor %}", "nobody"),
    ("{% for a, b in client.attributes.items() %}{{ a }}={{ b }}{% endfor %}", "site=north"),
    ("{% for a in client.attributes|dictsort %}{{ a[0] }}{% endfor %}", "site"),
    ("{{ alert.clients|join(', ') }}", "a, b, c"),
    ("{{ [{'x': 1}, {'x': 2}]|join('-', attribute='x') }}", "1-2"),
    ("{{ [{'x': 1}, {'x': 2}]|sum('x') }}", "3"),
    ("{{ alert.clients|map('upper')|list }}", "['A', 'B', 'C']"),
    ("{{ alert.clients[1:]|length ~ '/' ~ alert.clients|length }}", "2/3"),
    ("{{ '%s is %-9s|'|format(client.id, status) }}", "G@@@d1 is offline  |"),
    ("{{ '%(a)03d'|format(a=7) }}", "007"),
    ("{{ client.id|replace('@', '-') }}", "G---d1"),
    ("{{ client.id|replace('@', '-', 1) }}", "G-@@d1"),
    ("{{ client.id.replace('@', '-').split('-')|last|upper }}", "D1"),
    ("{{ client.attributes.get('nothing', 'x') }}", "x"),
    ("{{ client.attributes.nothing|default('unset') }}", "unset"),
    ("{{ client['device'] }}{{ client.device[0] }}", "d1d"),
    ("{{ 2.345|round(2) }} {{ 7 * 6 }} {{ 7 // 2 }} {{ 2 ** 10 }}", "2.35 42 3 1024"),
    ("{{ {'a': [1, 'é<']}|tojson }}", '{"a": [1, "é\\u003c"]}'),
    ("{{ 'a<b'|e ~ '&' }}", "a&lt;b&"),
    ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}{{ m(2) }}", "[1][2]"),
    ("{% set x %}{{ status }}!{% endset %}{{ x|upper }}", "OFFLINE!"),
    ("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}", "3"),
    ("{% filter upper %}{{ status }}{% endfilter %}", "OFFLINE"),
    ("{% for x in [[1, [2]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
     "(1(2))"),
    ("{{ 'b' in alert.clients }} {{ (1, 2) == (1, 2) }} {{ none }}", "True True "),
    ("{% if client.device is in ['d1', 'd2'] %}yes{% endif %}", "yes"),
    ("{% raw %}{{ x }}{% endraw %}{# nothing #}", "{{ x }}"),
    ("{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{{ loop.previtem|default('-') }}{% endfor %}", "a-b0a1"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "expected"), WORKING, ids=[template for template, _ in WORKING])
def test_what_people_write_works(template: str, expected: str) -> None:
    assert text(template, alert={"clients": ["a", "b", "c"]}) == expected


def test_a_thousand_members_with_many_attributes_are_sorted_by_one_of_them() -> None:
    attributes = {f"column {number}": "some value of it" for number in range(20)}
    members = [{"id": f"G@@@d{number}", "flaps": number % 700, "attributes": attributes} for number in range(1_000)]
    ten = "{% for one in (alert.members|sort(attribute='flaps', reverse=true))[:10] %}{{ one.flaps }} {% endfor %}"
    assert text(ten, alert={"members": members}) == "699 698 697 696 695 694 693 692 691 690 "
    assert text("{{ (alert.members|sort(attribute='flaps,id'))[0].id }}", alert={"members": members}) == "G@@@d0"


def test_a_storm_of_clients_is_listed_as_long_as_it_fits() -> None:
    clients = [f"G@@@d{number:04d}" for number in range(5_000)]
    assert len(text("{% for c in alert.clients %}{{ c }},{% endfor %}", alert={"clients": clients})) == 50_000
    assert len(text("{{ alert.clients|join(',') }}", alert={"clients": clients})) == 49_999
    assert len(text("{{ alert.clients[:100]|join(',') }}", alert={"clients": clients * 10})) == 999


# Names that clash with methods.

CLASHES = ["items", "keys", "values", "get", "copy", "pop", "update", "clear"]


@pytest.mark.parametrize("name", CLASHES)
@pytest.mark.parametrize(
    "template", ["{{ client.attributes.%s }}", "{%% if 1 %%}{{ client.attributes.%s }}{%% endif %%}"]
)
def test_a_column_or_label_called_like_a_method_is_the_column(name: str, template: str) -> None:
    client = {**variables()["client"], "attributes": {name: "mine"}}
    assert text(template % name, client=client) == "mine"
    assert text(template % name.join(("", "")) + "{{ rule.labels." + name + " }}", client=client,
                rule={"labels": {name: "too"}}) == "minetoo"  # fmt: skip


def test_without_such_a_column_the_reading_methods_are_methods_and_the_writing_ones_are_not_there() -> None:
    assert text("{{ client.attributes.items()|list }}") == "[('site', 'north')]"
    for name in ("pop", "update", "clear", "copy", "setdefault"):
        assert "body: " in refusal(f"{{{{ client.attributes.{name}() }}}}")


def test_methods_that_templates_may_not_call_are_reported_when_rules_are_loaded() -> None:
    names = names_of(columns=("site",))
    assert template_problems("{{ client.id.center(9) }}", names)
    assert template_problems("{{ client.id.format(9) }}", names)
    assert template_problems("{{ client.attributes.pop('site') }}", names)
    assert not template_problems(
        "{{ client.id.upper() }}{{ client.attributes.items() }}{{ alert.clients.count('x') }}", names
    )
    assert not template_problems("{{ client.attributes.copy }}", names_of(columns=("copy",)))


# The quick way and Jinja's say the same.

NAMES = [
    "client.id",
    "client.device",
    "client.attributes.site",
    "status",
    "nothing",
    "client.nothing",
    "rule.labels.items",
]
PIECES = st.lists(
    st.one_of(st.sampled_from([f"{{{{ {name} }}}}" for name in NAMES]), st.sampled_from(["a", " ", "\n", "é"]))
)


@given(PIECES, HOSTILE)
def test_a_template_that_only_inserts_values_says_what_jinja_says(pieces: list[str], device: str) -> None:
    template = "".join(pieces)
    seen = variables(device, rule={"labels": {"items": device}})
    for render in (COMPILER.text, COMPILER.url):
        assert _outcome(render(template), seen) == _outcome(render(template + "{% if 1 %}{% endif %}"), seen)


def _outcome(render: Any, seen: Mapping[str, Any]) -> str:
    try:
        return str(render(seen))
    except Exception as error:  # noqa: BLE001  # the same failure is the same outcome
        return type(error).__name__


SOUP = st.lists(
    st.sampled_from(
        [
            "{{ ",
            " }}",
            "{% for x in ",
            " %}",
            "{% endfor %}",
            "{% if ",
            "{% endif %}",
            "alert.clients",
            "range(1000)",
            "x",
            "~",
            "|",
        ]
        + [
            "join",
            "upper",
            "list",
            "[1]",
            "client",
            ".",
            "id",
            "'a'",
            "*",
            "**",
            "9",
            "(",
            ")",
            "{% set x = ",
            "tojson",
            "==",
            " ",
        ]
    ),
    max_size=30,
)


@given(SOUP)
def test_no_template_text_whatever_it_is_stops_the_engine(pieces: list[str]) -> None:
    rendered = webhook({"body": "".join(pieces)})
    assert rendered.dead is None
    assert ("body" in rendered.request) == (rendered.problem is None)
    assert len(rendered.request.get("body", "")) <= MAX_OUTPUT_CHARACTERS


def test_a_body_that_fails_is_replaced_whoever_is_listed() -> None:
    """What is said of each one listed holds views of the inventory, which are no JSON; the page must go out all the same."""
    member = {"id": "G@@@d1", "attributes": MappingProxyType({"site": "north"})}
    alert = {"id": "a", "clients": ["G@@@d1"], "members": [member], "shared": {"site": "north"}, "count": 1}
    rendered = webhook({"body": "{{ 1 / 0 }}"}, {**variables("d1"), "alert": alert})
    assert rendered.dead is None and rendered.request["template_error"]
    assert json.loads(json.dumps(rendered.request["json"]))["alert"] == {"id": "a", "clients": ["G@@@d1"], "count": 1}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{ alert.clients|map('upper') }}", "['G@@@D1']"),
        ("{{ alert.clients|select('eq', 'G@@@d1') }}", "['G@@@d1']"),
        ("{{ 'of ' ~ alert.clients|map('upper') }}", "of ['G@@@D1']"),
    ],
)
def test_a_sequence_that_is_printed_is_a_list(template: str, wanted: str) -> None:
    assert text(template) == wanted


@pytest.mark.parametrize(
    "template", ["{{ range }}", "{{ client['id'].upper }}", "{{ client.get }}", "{{ '' ~ range }}"]
)
def test_a_function_is_never_printed(template: str) -> None:
    assert refusal(template) == "body: a function or a method cannot be printed: call it with ( )"
