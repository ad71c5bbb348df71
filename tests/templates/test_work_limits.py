"""No template works for long: every operation looks at its values first, nothing internal has a name, and a clock stops the rest."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from engine.templates.compiler import Compiler, TemplateProblem
from engine.templates.sandbox.gives_up import GivesUp
from engine.templates.sandbox.meter import METER, LimitExceeded
from engine.templates.sandbox.time_limit import TimeLimit

HANG_S = 20.0
"""What a rendering may take on the busiest machine. Without a limit, what is tried here takes minutes, or all memory."""

VARIABLES: Mapping[str, Any] = {
    "client": {"id": "G@@@d1", "device": "spend!", "attributes": {"site": "north"}},
    "status": "offline",
    "alert": {"clients": [f"G@@@d{number}" for number in range(1_000)]},
}

TEXTS = (
    "{% set h = 'aaaaaaaaaaaaaaaa' %}" + "{% set h = h ~ h %}" * 10 + "{% set n = h[:8000] ~ 'b' %}"
    "{% set m = 'b' ~ h[:16000] %}{% set l = h|list %}{% set l2 = h|list %}"
)
"""Long texts that nearly hold one another, and long lists that are equal."""

NESTS = "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 14
"""Two equal lists of 16,384 items made of few."""

OF_TEXTS = [
    *("n in h", "m in h", "h.find(n)", "h.rfind(m)", "h.rindex(m)", "h.index(n)", "h.count(m)", "h.split(m)"),
    *("h.rsplit(m)", "h.partition(m)", "h.rpartition(m)", "h.replace(m, '')", "h|replace(m, '')", "h.strip(m)"),
    *("h|trim(m)", "h.startswith((m, n))", "h == h ~ ''", "h < n", "h is in(n)", "h is eq(n)", "h|striptags"),
    *("h|replace('a', '<')|striptags", "h|replace('a', '<>')|striptags", "h|replace('a', '<!--')|striptags"),
    *("h|title", "h|upper", "h|urlencode", "h|wordcount", "h|int", "h|float", "h|int(base=16)", "h|tojson", "h|sort"),
    *("h|replace('a', '9')|int", "h|unique|list", "h|e", "h|truncate(9)", "h.join([h])", "[h, h]|join(h)", "h.title()"),
    *("'%r%r'|format(h, h)", "h|replace('a', '%%')|format", "h[::-1]", "h|capitalize", "h.casefold()", "h|reverse"),
]
OF_LISTS = [
    *("'x' in l", "l == l2", "l != l2", "l < l2", "l.count('x')", "l.index('a')", "l + l", "l|sort", "l|min", "l|max"),
    *("l|unique|list", "l|map('upper')|list", "l|select('eq', 'x')|list", "l|select('in', l)|list", "l|reverse|list"),
    *("l|reject('in', l)|list", "l|map(attribute='0.0.0.0')|list", "l|sort(attribute='0,0,0')", "l|tojson", "l ~ ''"),
    *("l is eq(l2)", "[l] == [l2]", "(l, 1) == (l2, 1)", "l|map('map', 'upper')|list", "l|join", "l|string", "l[1:]"),
]
OF_NESTS = [
    *("a == b", "a < b", "a in [b]", "b in a", "a|sort", "a is eq(b)", "[a]|select('eq', b)|list", "[a, b]|min"),
    *("{'x': a} == {'x': b}", "[a].index(b)", "[a].count(b)", "{'x': a}.items() == {'x': b}.items()", "a|tojson"),
    *("a in {'x': b}.values()", "'%s'|format(a)", "a ~ b", "loop.changed(a)", "loop.cycle(a, b)", "a|string", "(a, a)"),
]
OVER_AND_OVER = [
    *(TEXTS + "{% for i in range(999) %}" + one for one in (*OF_TEXTS, *OF_LISTS)),
    *(NESTS + "{% for i in range(999) %}" + one for one in OF_NESTS),
]


def outcome(template: str, kind: str = "text") -> str:
    """The text, or why there is none; a template that takes too long fails the test."""
    began = time.monotonic()
    try:
        text: str = getattr(Compiler(), kind)(template)(VARIABLES)
    except Exception as error:  # noqa: BLE001  # the kind of the failure is what is asked
        text = f"{type(error).__name__}: {error}"
    assert time.monotonic() - began < HANG_S, template
    return text


@pytest.mark.parametrize("written", OVER_AND_OVER, ids=[one.rsplit("%}", 1)[1] for one in OVER_AND_OVER])
def test_an_operation_repeated_on_the_largest_values_ends_soon(written: str) -> None:
    before, expression = written.rsplit("%}", 1)
    use = "{% if " + expression + " %}{% endif %}"
    again = "{% for k in range(999) %}" + use + "{% endfor %}"
    text = outcome(before + "%}" + use + again + "{% endfor %}")
    assert text == "" or "Limit" in text or "Error" in text


@pytest.mark.parametrize("name", ["spend!", "charge_each!", "join!", "paid", "charged", "charged_items", "compared"])
@pytest.mark.parametrize("way", ["map({0})|list", "select({0})|list", "map('map', {0})|map('list')|list", "sum({0})"])
def test_nothing_internal_can_be_named_in_a_template_or_by_data(name: str, way: str) -> None:
    METER.refill()
    for written in (repr(name), "client.device"):
        assert "Error" in outcome("{{ [-1000000000000]|" + way.format(written) + " }}")
    assert METER.left < 1_000_000


HUGE = [
    *("'%(a(b))1900000000d'|format(**{'a(b)': 1})", "'%1900000000d'|format(1)", "'%.1900000000f'|format(1.0)"),
    *("'%*d'|format(1900000000, 1)", "'%1900000000d' % 1", "'%1900000000d' is odd", "'%1900000000d' is even"),
    *("'%1900000000d' is divisibleby(1)", "'a'|round(9, 'ceil')", "[1]|round(9, 'floor')", "'a' * 1900000000"),
    *("[1] * 1900000000", "9 ** 9 ** 9", "range(1900000000)", "client.id.center(1900000000)", "client.id.zfill(19)"),
    *("client.id.encode()", "'{:>1900000000}'.format(1)", "client.id.expandtabs(9)", "client.id.translate({})"),
    *("loop._iterator", "range.__globals__", "loop.__class__", "(client.id|map('upper')).gi_frame", "(1).real"),
    *("namespace()", "cycler(1)", "joiner()", "lipsum()", "dict()", "self.x()", "client|attr('id')"),
    *("[(-1,), (-2,)]|unique|list", "[2305843009213693951, 4611686018427387902]|unique|list", "1e400|int", "-'a'"),
]


@pytest.mark.parametrize("expression", HUGE)
def test_what_would_make_something_huge_or_reach_inside_fails_at_once(expression: str) -> None:
    for kind in ("text", "html", "url"):
        text = outcome("{% for i in [1] %}{{ " + expression + " }}{% endfor %}", kind)
        assert re.match(r"\w*(Error|Limit|Problem)", text), text


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}",
        "{{ " + "[" * 4_000 + "1" + "]" * 4_000 + " }}",
        "{{ " + "not " * 3_000 + "1 }}",
        "{{ " + "-" * 4_000 + "1 }}",
        "{{ " + "9" * 5_000 + " }}",
        "{{ client" + ".a" * 7_000 + " }}",
        "{{ 1" + "|string" * 2_000 + " }}",
        "{% if 1 %}" * 500 + "{% endif %}" * 500,
        "{% for i in [1] %}" * 200 + "{% endfor %}" * 200,
        "{% autoescape false %}{% endautoescape %}",
        "{% include 'x' %}",
        "{% block x %}{% endblock %}",
        "{% set x.y = 1 %}",
        "{{ x.y(old=1, old=2) }}",
    ],
    ids=lambda template: template[:20],
)
def test_what_does_not_compile_is_a_problem_of_the_template_whatever_python_raises(template: str) -> None:
    for kind in ("text", "url", "html"):
        with pytest.raises(TemplateProblem):
            getattr(Compiler(), kind)(template)


# What takes too long all the same


def forever(_: object) -> str:
    """A rendering without an end that nothing in the template limits; filters that catch errors do not hold it up."""
    while True:
        with suppress(Exception):
            sum(range(100))


def test_a_rendering_that_takes_too_long_is_stopped_from_outside_and_the_thread_goes_on() -> None:
    limit = TimeLimit(max_seconds=0.2)
    for _ in range(3):
        with pytest.raises(LimitExceeded, match=r"longer than 0\.2 s and was stopped"):
            limit.run(forever, None)
    assert limit.run(str, 5) == "5"
    assert limit.longest_s() == 0.0


def test_a_rendering_in_another_thread_is_stopped_and_only_that_one() -> None:
    limit = TimeLimit(max_seconds=0.3)
    found: list[str] = []

    def render() -> None:
        try:
            limit.run(forever, None)
        except LimitExceeded as error:
            found.append(str(error))

    threads = [threading.Thread(target=render, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert limit.longest_s() >= 0.0
    for thread in threads:
        thread.join(HANG_S)
    assert len(found) == 2


def test_while_a_rendering_goes_on_its_age_is_known() -> None:
    limit, may_end, begun = TimeLimit(), threading.Event(), threading.Event()

    def wait(_: object) -> None:
        begun.set()
        may_end.wait(HANG_S)

    thread = threading.Thread(target=limit.run, args=(wait, None))
    thread.start()
    begun.wait(HANG_S)
    assert limit.longest_s() > 0.0
    may_end.set()
    thread.join()
    assert limit.longest_s() == 0.0


def test_a_template_that_always_reaches_its_limit_is_not_tried_each_time() -> None:
    tried = 0

    def costly(variables: Mapping[str, Any]) -> str:
        nonlocal tried
        tried += 1
        METER.refill()
        METER.spend(10 if variables else 10**9)
        return "text"

    render = GivesUp(costly)
    for _ in range(1_000):
        with pytest.raises(LimitExceeded, match="too much work"):
            render({})
    assert tried < 12
    while True:  # it is tried again in the end, and from then on as before
        try:
            assert render({"a": 1}) == "text"
            break
        except LimitExceeded as error:
            assert "not tried" in str(error)
    with pytest.raises(LimitExceeded):
        render({})
    assert render({"a": 1}) == "text"
