"""A comparison that has the same result whatever happens is a mistake when it is loaded; one that may be either is not."""

from __future__ import annotations

import pytest

from engine.templates.lint import template_problems
from engine.templates.names import names_of

NAMES = names_of(columns=("site", "floor"), labels=("team",), about_many="group", key=("group", "site"))

NEVER = [
    ('status == "OFFLINE"', "`status` is never `OFFLINE`; did you mean `offline`?"),
    ('"OFFLINE" == status', "`status` is never `OFFLINE`; did you mean `offline`?"),
    ('status != "OFFLINE"', "did you mean `offline`?"),
    ('not status == "ofline"', "did you mean `offline`?"),
    ('previous == "gone"', "`previous` is never `gone`"),
    ("alert.state == 'Firing'", "`alert.state` is never `Firing`; did you mean `firing`?"),
    ("alert['state'] == 'Firing'", "did you mean `firing`?"),
    ("alert.phase == 'recovered'", "did you mean `recovery`?"),
    ("alert.trigger == 'off-line'", "did you mean `offline`?"),
    ("rule.severity == 'Critical'", "did you mean `critical`?"),
    ("rule.severity in ['warn', 'critical']", "`rule.severity` is never `warn`"),
    ("status in ('offline', 'ONLINE')", "did you mean `online`?"),
    ("status not in ['offlin']", "did you mean `offline`?"),
    ("'OFF' in status", "`status` never contains `OFF`"),
    ("status is eq 'OFFLINE'", "did you mean `offline`?"),
    ("status is in ['OFFLINE']", "did you mean `offline`?"),
    ("status|upper == 'offline'", "the value is never `offline`; did you mean `OFFLINE`?"),
    ("status.upper() == 'offline'", "did you mean `OFFLINE`?"),
    ("client.device|lower == 'P-1'", "after `lower`, a text is never `P-1`; did you mean `p-1`?"),
    (
        "client.group == 3",
        "`client.group` is a text, which never equals a number or true or false: write `3` in quotes",
    ),
    ("client.attributes.floor in [1, 2]", "write `1` in quotes"),
    ("status == true", "(known: offline, online, unknown)"),
    ("status == none", "`status` is always a text and never `none`: when it is not set, it is empty"),
    ("duration == '60'", "`duration` is a number or true or false, which never equals a text: leave out the quotes"),
    ("graceful == 'true'", "leave out the quotes"),
    ("flapping != 'yes'", "leave out the quotes"),
    ("3 in alert.clients", "an item is a text, which never equals a number"),
    ("alert.members|selectattr('status', 'eq', 'OFFLINE')|list|length > 0", "did you mean `offline`?"),
    ("alert.members|rejectattr('status', 'in', ['offlin'])|list|length > 0", "did you mean `offline`?"),
    ("alert.members[0].status == 'OFFLINE'", "did you mean `offline`?"),
    ("('online' if graceful else 'offline') == 'gone'", "the value is never `gone`"),
]
MAY_BE = [
    'status == "offline"', "previous != 'unknown'", "alert.state in ['firing', 'pending']", "status == previous",
    "status|upper == 'OFFLINE'", "status in 'offline,online'", "'line' in status", "client.group == '3'",
    "client.attributes.floor|int == 3", "client.attributes.floor in ['1', '2']", "graceful == true", "graceful == 1",
    "duration == 60", "duration == 1.5", "verified_at == none", "alert.reason == 'anything'", "client.id in alert.clients",
    "alert.key.site == 'x'", "rule.severity == 'info'", "alert.count == 1", "'' == alert.source", "rule.name == 'x'",
    "evidence[0].type == 'connect'", "client.device|lower == 'p-1'", "client.ip != ''", "status < 'p'",
]  # fmt: skip


@pytest.mark.parametrize(("condition", "words"), NEVER)
def test_a_comparison_that_never_varies_is_a_mistake_in_conditions_and_templates(condition: str, words: str) -> None:
    assert words in "; ".join(template_problems(condition, NAMES, expression=True))
    assert words in "".join(template_problems(f"{{% if {condition} %}}x{{% endif %}}", NAMES))


@pytest.mark.parametrize("condition", MAY_BE)
def test_a_comparison_that_may_be_either_is_none(condition: str) -> None:
    assert list(template_problems(condition, NAMES, expression=True)) == []


def test_what_a_template_sets_and_passes_on_is_known_too() -> None:
    for source in (
        "{% set wanted = 'OFFLINE' %}{% if status == wanted %}x{% endif %}",
        "{% set s = status %}{% if s == 'OFFLINE' %}x{% endif %}",
        "{% for m in alert.members if m.status == 'OFFLINE' %}x{% endfor %}",
        "{% macro f(s) %}{% if s == 'OFFLINE' %}x{% endif %}{% endmacro %}{{ f(status) }}",
    ):
        assert "did you mean `offline`?" in "".join(template_problems(source, NAMES))
    assert template_problems("{% macro f(s) %}{{ f('a') }}{% if s == 'x' %}{% endif %}{% endmacro %}", NAMES)
