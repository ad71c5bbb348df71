"""What can only fail when it is used is a mistake when it is loaded, with a suggestion; what may be right is not."""

from __future__ import annotations

import pytest

from engine.templates.lint import template_problems
from engine.templates.names import names_of

NAMES = names_of(columns=("site", "floor"), labels=("team",), about_many="group", key=("group", "site"))

MISTAKES = [
    ("{{ alert.key.grup }}", "`alert.key.grup` does not exist; did you mean `group`?"),
    ("{{ alert.key['floor'] }}", "`alert.key.floor` does not exist"),
    ('{{ alert.members|map(attribute="sttus")|list }}', "`map`: an item has no `sttus`; did you mean `status`?"),
    ('{{ alert.members|map(attribute="attributes.sit")|join }}', "`attributes` has no `sit`; did you mean `site`?"),
    ('{{ alert.members|selectattr("typo")|list }}', "`selectattr`: an item has no `typo`"),
    ('{{ alert.members|rejectattr("statu", "eq", "x")|list }}', "did you mean `status`?"),
    ('{{ alert.members|sort(attribute="status,idd")|list }}', "`sort`: an item has no `idd`; did you mean `id`?"),
    ('{{ alert.members|join(",", attribute="idd") }}', "did you mean `id`?"),
    ('{{ alert.members|unique(attribute="idd")|list }}', "did you mean `id`?"),
    ('{{ alert.clients|map(attribute="id")|join }}', "an item is text and has no `id`"),
    ('{{ alert.members|groupby("typo") }}', "the filter `groupby` does not exist"),
    ("{{ (alert.members|first).typo }}", "does not exist"),
    ("{{ alert.members[0].idd }}", "did you mean `id`?"),
    ("{% set m = client %}{{ m.devise }}", "`m.devise` does not exist; did you mean `device`?"),
    ("{% with m = client %}{{ m.devise }}{% endwith %}", "did you mean `device`?"),
    ("{% set m = alert.members|first %}{{ m.idd }}", "did you mean `id`?"),
    ("{% for c in alert.clients %}{{ c.typo }}{% endfor %}", "`c` is text and has no `typo`"),
    ("{% for c in alert.clients[:5] %}{{ c.id }}{% endfor %}", "`c` is text and has no `id`"),
    ('{% for c in alert.members|sort(attribute="id") %}{{ c.ide }}{% endfor %}', "did you mean `id`?"),
    (
        "{% macro m(c) %}{{ c.devise }}{% endmacro %}{{ m(client) }}",
        "`c.devise` does not exist; did you mean `device`?",
    ),
    ("{% macro m(c) %}{{ c.idd }}{% endmacro %}{{ m(c=rule) }}", "`c.idd` does not exist"),
    ("{% macro a(c) %}{{ c.idd }}{% endmacro %}{% macro b(d) %}{{ a(d) }}{% endmacro %}{{ b(client) }}", "`id`?"),
    ('{{ client["devise"] }}', "did you mean `device`?"),
    ("{{ duration.seconds }}", "`duration` is a number or true or false, and has no `seconds`"),
    ("{{ client.id + duration }}", "+ cannot add a text and a number; use ~ to join them"),
    ("{{ client.id - 1 }}", "- is for numbers, not for a text"),
    ("{{ client.attributes.floor > 3 }}", "`>` cannot compare a text and a number: a text becomes a number with"),
    ("{% if 60 <= duration < '90' %}{% endif %}", "`<` cannot compare a text and a number"),
    ("{{ -client.id }}", "- is for numbers, not for a text"),
    ("{{ client.id.upper }}", "`client.id.upper` is a method: write `client.id.upper()`"),
    ("{{ alert.clients.count }}", "write `alert.clients.count()`"),
    ("{{ range }}", "`range` is a function: write `range(…)`"),
    ("{{ 1 // 0 }}", "always fails: integer division or modulo by zero"),
    ("{% set m = {'a': 1} %}{% set n = m %}{{ m.b }}", "always fails: 'dict object' has no attribute 'b'"),
    ("{% set a, b = 1 %}", "always fails"),
    ("{{ range(10 ** 9)|list }}", "always fails"),
    ("{{ 'x'|round }}", "always fails: `round` is for numbers"),
    (
        "{{ client.id|replace('a') }}",
        "the filter `replace` cannot be called like this: missing a required argument: 'new'",
    ),
    ("{{ client.id is divisibleby }}", "the test `divisibleby` cannot be called like this"),
    ("{{ [1]|map('uper')|list }}", "the filter `uper` in `map` does not exist; did you mean `upper`?"),
    ("{{ [1]|select('evn')|list }}", "the test `evn` in `select` does not exist; did you mean `even`?"),
    ("{{ occurred_at|localtime('Europe/Berln') }}", "did you mean `Europe/Berlin`?"),
    ("{{ occurred_at|localtime('UTC', '%Q') }}", "`%Q` is not a part of a date or a time"),
    ("{% for e in evidence %}{{ loop.indx }}{% endfor %}", "`loop.indx` does not exist; did you mean `index`?"),
    ("{% autoescape false %}{% endautoescape %}", "autoescape cannot be changed"),
    ("{{ rule.labels.team.x }}", "`rule.labels.team` is text and has no `x`"),
]


@pytest.mark.parametrize(("template", "wanted"), MISTAKES, ids=[template for template, _ in MISTAKES])
def test_what_can_only_fail_is_a_mistake_with_a_suggestion(template: str, wanted: str) -> None:
    assert wanted in " ".join(template_problems(template, NAMES))


RIGHT = [
    "{{ alert.key.group }}{{ alert.key['site'] }}",
    "{{ alert.key.typo|default('x') }}",
    "{% if alert.key.typo is defined %}{{ alert.key.typo }}{% endif %}",
    "{% if alert.key %}{{ alert.key.floor }}{% endif %}",
    "{% for k, v in alert.key.items() %}{{ k }}={{ v }}{% endfor %}",
    '{{ alert.members|map(attribute="attributes.site")|join }}{{ alert.members|map(attribute="typo", default="")|list }}',
    '{{ alert.members|selectattr("typo", "defined")|list|length }}',
    '{{ alert.members|selectattr("status", "in", ["offline"])|map(attribute="id")|join(", ") }}',
    "{% set m = client %}{% set m = rule %}{{ m.name }}",
    "{% if graceful %}{% set m = client %}{% else %}{% set m = rule %}{% endif %}{{ m.anything }}",
    "{% macro m(c) %}{{ c.id }}{% endmacro %}{{ m(client) }}{{ m(alert.members[0]) }}{{ m(client|default(none)) }}",
    "{% macro m(c=none) %}{{ c.id if c else '' }}{% endmacro %}{{ m() }}",
    "{{ client.get('typo') }}{{ client.id[0] }}{{ client.id[1:].upper() }}{{ duration + 5 }}{{ alert.count ~ 'x' }}",
    "{{ client.id|truncate(9, true, '', 0) }}{{ alert.clients|list|sort|unique|join(', ') }}{{ [3, 1]|max }}",
    "{{ occurred_at|localtime('Europe/Berlin', '%H:%M') }}{{ alert.ended_at|localtime(client.attributes.site) }}",
    "{% for e in evidence %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{{ e.type }}{% endfor %}",
    "{{ alert.duration }}{{ alert.url }}{{ alert.ended_at }}{{ alert.acknowledged_by }}{{ alert.trigger }}{{ alert.phase }}",
    "{{ (client.device|int) - 1 }}{{ '%s %d'|format(client.id, alert.count) }}{{ flaps is divisibleby 2 }}",
    "{% if false %}{{ 1 // 0 }}{% endif %}",
]


@pytest.mark.parametrize("template", RIGHT)
def test_what_may_be_right_is_no_mistake(template: str) -> None:
    assert not template_problems(template, NAMES)


def test_without_a_by_the_key_is_empty_and_the_message_says_why() -> None:
    (message,) = template_problems("{{ alert.key.group }}", names_of(key=()))
    assert "it is empty, because this rule has no `by`" in message


def test_macros_that_call_themselves_and_each_other_are_checked_once() -> None:
    template = (
        "{% macro a(c, d) %}{{ b(c|map('upper')|list, d) }}{{ a(d, c) }}{% endmacro %}"
        "{% macro b(c, d) %}{{ a(c|sort, d) }}{{ b([d], c) }}{{ d.idd }}{% endmacro %}"
        "{{ a(alert.clients, client) }}{{ b(alert.clients, client) }}"
    )
    assert "`d.idd` does not exist; did you mean `id`?" in template_problems(template, NAMES)


CONDITIONS = [
    ("flaps > '3'", "`>` cannot compare a text and a number"),
    ("client.id > 3", "`>` cannot compare a text and a number"),
    ("client.attributes.site|int > '3'", "`>` cannot compare a text and a number"),
    ("alert.clients > 3", "`>` cannot compare a list and a number; its size is `|length`"),
    ("client.attributes >= client.attributes", "`>=` cannot compare a mapping and a mapping"),
    ("'x' in flaps", "`flaps` is a number or true or false: `in` can look into texts and lists only"),
    ("flaps in client.id", "`in` can look into a text only for a text, not for a number"),
    ("flaps|length > 3", "`length` is for texts and lists, and `flaps` is a number or true or false"),
    ("duration|localtime == 'x'", "`localtime` is for instants such as occurred_at, and `duration` is a number"),
    ("evidence + 1", "+ cannot be used with a list"),
    ("flaps / 0 > 1", "/ 0 always fails"),
    ("1 / (1 - 1) > 1", "always fails: division by zero"),
    ("{'a': 1}.b == 1", "always fails: 'dict object' has no attribute 'b'"),
    ("not client.id.upper", "`client.id.upper` is a method: write `client.id.upper()`"),
    ("client.device.upper == 'X'", "`client.device.upper` is a method: write `client.device.upper()`"),
    ("flaps and client.id.lower", "`client.id.lower` is a method: write `client.id.lower()`"),
]


@pytest.mark.parametrize(("condition", "wanted"), CONDITIONS)
def test_a_condition_that_can_only_fail_is_a_mistake(condition: str, wanted: str) -> None:
    (message,) = template_problems(condition, NAMES, expression=True)
    assert message.startswith(wanted)


@pytest.mark.parametrize(
    "condition",
    [
        "client.device.startswith('x') and flaps|int > 3",
        "client.attributes.site|int(default='x') == 'x'",
        "'a' in client.id and client.id in alert.clients and 'site' in client.attributes",
        "alert.clients|length > 3 and client.id > 'a' and flaps > graceful",
    ],
)
def test_a_condition_that_may_hold_is_no_mistake(condition: str) -> None:
    assert template_problems(condition, NAMES, expression=True) == []


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{ secrets.a|upper }}", "`secrets.a` cannot go through `upper`"),
        ("{{ secrets.a.upper() }}", "`secrets.a` cannot go through `upper`"),
        ("{{ secrets.b }}", "`secrets.b` does not exist"),
    ],
)
def test_a_secret_can_only_be_inserted(template: str, wanted: str) -> None:
    names = names_of(secrets=("a",))
    assert template_problems("{{ secrets.a }}{{ secrets.a|tojson }}", names, secrets_allowed=True) == []
    assert template_problems(template, names, secrets_allowed=True)[0].startswith(wanted)
