"""What every store keeps for alerts beside their own rows: silences, groups, outages and their members, schedules, bursts, escalations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import Alert, Kept, Output
from engine.core.alerting.escalation import Escalation, SentStep
from engine.core.alerting.grouping import Group
from engine.core.alerting.open_alerts import APART, OpenAlerts
from engine.core.alerting.outages import Outage
from engine.core.alerting.past import PastRecord
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.schedules import Tick
from engine.core.alerting.silences import Silence
from engine.core.rules import Match, Rule
from engine.stores.base import Store
from tests.stores.backends import Backend

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
PATTERNS = st.lists(TEXTS, max_size=2).map(tuple)
TIMES = st.integers(0, 4_102_444_800_000)


def silence(id_: str = "s1", **changes: object) -> Silence:
    """A silence with something in every field."""
    match = Match(group=("G'",), ip=("10.0.0.0/8",), attributes=(("site", ("n*", "é")),))
    fields: dict[str, object] = {
        "id": id_,
        "match": match,
        "from_ms": 10,
        "until_ms": 20,
        "author": "Zoë",
        "comment": "why",
        "rules": ("pump-*", "re:é"),
        "planned": True,
    }
    return Silence(**{**fields, **changes})  # type: ignore[arg-type]


def group(**changes: object) -> Group:
    """A group with something in every field."""
    fields: dict[str, object] = {
        "rule": "r",
        "key": '{"group": "é"}',
        "first_ms": 1,
        "sent_at_ms": 2,
        "sent": ["G@@@b", "G@@@a", "\0r\0{}"],
        "passing": ["G@@@c"],
        "passed": 7,
        "remind_at_ms": 9,
        "name": "n",
        "is_bundle": True,
        "ended": [1, 2, 3],
    }
    return Group(**{**fields, **changes})  # type: ignore[arg-type]


def outage(name: str = "o1") -> Outage:
    """An outage that goes on."""
    return Outage(name, "r", '{"group": "G"}', 1, 2, 3)


def write(store: Store, out: Output) -> Kept:
    """Write what a step changed; what is kept then."""
    with store.transaction():
        store.alerts.write_kept(out)
    return store.alerts.kept()


def fields_of(value: object, *names: str) -> list[object]:
    """Fields of a value that has no equality."""
    return [getattr(value, name) for name in names]


def test_a_new_store_keeps_nothing(store: Store) -> None:
    kept = store.alerts.kept()
    assert fields_of(kept, "groups", "outages", "members", "silences", "schedules", "bursts", "escalations") == [[]] * 7


def test_a_silence_is_kept_whole_and_may_be_changed(store: Store) -> None:
    out = Output()
    out.silences = {"s1": silence()}
    assert write(store, out).silences == [silence()]
    out.silences = {"s1": silence(until_ms=15), "s2": silence("s2", match=Match())}
    assert write(store, out).silences == [silence(until_ms=15), silence("s2", match=Match())]


@given(
    st.builds(
        Match,
        group=PATTERNS,
        device=PATTERNS,
        client=PATTERNS,
        ip=PATTERNS,
        attributes=st.dictionaries(TEXTS, st.lists(TEXTS, min_size=1, max_size=2).map(tuple), max_size=2).map(
            lambda found: tuple(sorted(found.items()))
        ),
    ),
    TIMES,
    TIMES,
    PATTERNS,
    st.booleans(),
    TEXTS,
    TEXTS,
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_silence_comes_back_as_it_was(
    store: Store,
    match: Match,
    from_ms: int,
    until_ms: int,
    rules: tuple[str, ...],
    planned: bool,
    author: str,
    comment: str,
) -> None:
    one = Silence(
        id="s",
        match=match,
        from_ms=from_ms,
        until_ms=until_ms,
        rules=rules,
        planned=planned,
        author=author,
        comment=comment,
    )
    out = Output()
    out.silences = {"s": one}
    assert write(store, out).silences == [one]


def test_silences_are_listed_newest_first_by_state_author_and_page(backend: Backend, store: Store) -> None:
    out = Output()
    ends = {"s1": (10, 20, "a"), "s2": (11, 50, "b"), "s3": (11, 60, "a"), "s4": (12, 30, "a")}
    out.silences = {
        id_: silence(id_, from_ms=begin, until_ms=end, author=author) for id_, (begin, end, author) in ends.items()
    }
    write(store, out)
    with backend.reader() as reader:

        def ids(**wanted: object) -> list[str]:
            return [one.id for one in reader.silences(now_ms=30, **wanted)]  # type: ignore[arg-type]

        assert ids() == ["s4", "s3", "s2", "s1"]
        assert ids(state="active") == ["s3", "s2"]
        assert ids(state="expired") == ["s4", "s1"]  # the end is excluded
        assert ids(author="a", state="active") == ["s3"]
        assert ids(limit=2) == ["s4", "s3"]
        assert ids(limit=2, cursor=(11, "s3")) == ["s2", "s1"]
        assert reader.silence("s2") == out.silences["s2"]
        assert reader.silence("s9") is None


def test_a_group_is_kept_until_it_is_closed(store: Store) -> None:
    one = group()
    out = Output()
    out.groups = {one.name: one}
    (kept,) = write(store, out).groups
    names = (
        "name",
        "rule",
        "key",
        "first_ms",
        "sent_at_ms",
        "sent",
        "passing",
        "passed",
        "remind_at_ms",
        "is_bundle",
        "ended",
    )
    assert fields_of(kept, *names) == fields_of(one, *names)
    assert list(kept.sent) == list(one.sent)
    one.is_closed = True
    assert write(store, out).groups == []


def test_an_outage_and_its_members_are_kept_until_it_is_over(store: Store) -> None:
    one, other = outage(), outage("o2")
    out = Output()
    out.outages = {"o1": one, "o2": other}
    out.members = {("o1", "G@@@a"): 1, ("o1", "G@@@b"): 1, ("o2", "G@@@'"): 1}
    write(store, out)
    out = Output()
    out.members = {("o1", "G@@@b"): 2}
    kept = write(store, out)
    names = ("name", "rule", "key", "earliest_ms", "quiet_since_ms", "peak")
    assert [fields_of(found, *names) for found in kept.outages] == [fields_of(one, *names), fields_of(other, *names)]
    assert sorted(kept.members) == [("o1", "G@@@a", 1), ("o1", "G@@@b", 2), ("o2", "G@@@'", 1)]
    out = Output()
    one.is_over = True
    out.outages, out.members = {"o1": one}, {("o1", "G@@@a"): 0}
    kept = write(store, out)
    assert [found.name for found in kept.outages] == ["o2"]
    assert kept.members == [("o2", "G@@@'", 1)]


@pytest.mark.parametrize("apart", [APART, "\0"], ids=["now", "earlier"])
def test_a_member_of_an_outage_is_found_by_the_name_that_the_engine_made(store: Store, apart: str) -> None:
    rule = Rule(name="site", triggers=("outage",), actions=())
    name = OpenAlerts().add(rule, "outage", 5, key='{"site": "n"}').name.replace(APART, apart)
    out = Output()
    out.outages, out.members = {name: outage(name)}, {(name, "G@@@a"): 1}
    kept = write(store, out)
    assert [found.name for found in kept.outages] == [name]
    assert kept.members == [(name, "G@@@a", 1)]
    assert apart in name


def test_the_alert_of_an_outage_keeps_the_name_by_which_the_outage_knows_it(store: Store) -> None:
    alerts = [
        Alert(
            name="site\0\0key",
            rule="site",
            client=None,
            source=None,
            trigger="outage",
            state="firing",
            started_at_ms=1,
            due_at_ms=1,
            key="{}",
        ),
        Alert(
            name="gone\0c",
            rule="gone",
            client="c",
            source=None,
            trigger="offline",
            state="firing",
            started_at_ms=2,
            due_at_ms=2,
        ),
    ]
    with store.transaction():
        store.alerts.write(alerts)
    kept, other = store.alerts.open()
    assert (kept.name, kept.id) == (alerts[0].name, alerts[0].id)
    assert other.id == alerts[1].id


def test_schedules_and_bursts_are_kept(store: Store) -> None:
    out = Output()
    out.schedules = {"r": Tick("r", 5)}
    out.bursts = {"r": Burst("r", [(1, 2), (3, 4)], 5, True), "q": Burst("q", [(1, 1)])}
    write(store, out)
    out = Output()
    out.schedules = {"r": Tick("r", 6)}
    out.bursts = {"q": Burst("q")}
    kept = write(store, out)
    assert [fields_of(tick, "rule", "at_ms") for tick in kept.schedules] == [["r", 6]]
    assert [fields_of(burst, "rule", "times", "total", "held", "is_announced") for burst in kept.bursts] == [
        ["r", [(1, 2), (3, 4)], 6, 5, True]
    ]


def test_what_roll_calls_look_back_on_is_kept(store: Store) -> None:
    out = Output()
    out.past = {
        "": PastRecord("", {3_600_000: [5, 7]}),
        "G@@@é": PastRecord("G@@@é", {-1: [2, 1_500], 40: [0, 9]}),
        "b": PastRecord("b", {1: [1, 1]}),
    }
    write(store, out)
    out = Output()
    out.past = {"b": PastRecord("b", {})}
    kept = write(store, out)
    assert {record.client: record.parts for record in kept.past} == {
        "": {3_600_000: [5, 7]},
        "G@@@é": {-1: [2, 1_500], 40: [0, 9]},
    }


def test_an_escalation_is_kept_until_it_is_over(store: Store) -> None:
    out = Output()
    sent = [SentStep("digest", 900_000, 7, 1), SentStep("other", 3_600_000, 9, 2)]
    out.escalations = {"n": Escalation("n", "r", 5, 2, 900_000, True, False, 8, sent), "m": Escalation("m", "r", 6)}
    write(store, out)
    out = Output()
    over = Escalation("m", "r", 6)
    over.is_over = True
    out.escalations = {"m": over}
    (kept,) = write(store, out).escalations
    names = ("id", "rule", "from_ms", "ladder", "reached_ms", "is_stopped", "is_held", "freed_ms")
    assert fields_of(kept, *names) == ["n", "r", 5, 2, 900_000, True, False, 8]
    assert [fields_of(step, "actions", "after_ms", "at_ms", "ladder") for step in kept.sent] == [
        ["digest", 900_000, 7, 1],
        ["other", 3_600_000, 9, 2],
    ]


def test_what_is_undone_is_not_kept(store: Store) -> None:
    out = Output()
    out.silences, out.outages = {"s1": silence()}, {"o1": outage()}
    with pytest.raises(KeyError), store.transaction():
        store.alerts.write_kept(out)
        raise KeyError
    assert store.alerts.kept().silences == [] and store.alerts.kept().outages == []


def test_silences_that_ended_long_ago_are_purged_and_others_stay(store: Store) -> None:
    out = Output()
    out.silences = {"old": silence("old", until_ms=99), "young": silence("young", until_ms=100)}
    write(store, out)
    with store.transaction():
        assert store.purge(100, checkpoint=0) == 1
    assert [one.id for one in store.alerts.kept().silences] == ["young"]


def test_what_a_rule_said_at_an_instant_is_known_as_long_as_history_is(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.rules.write("r", "one", 10, None)
        store.rules.write("r", "one", 20, None)
        store.rules.write("r", "two", 30, None)
        store.rules.write("r", "one", 40, None)
    with backend.reader() as reader:
        assert [reader.rule_at("r", at_ms) for at_ms in (9, 10, 29, 30, 39, 40)] == [
            None,
            "one",
            "one",
            "two",
            "two",
            "one",
        ]
        assert reader.rule_at("q", 50) is None
        with store.transaction():
            store.purge(35, checkpoint=0)
        assert [reader.rule_at("r", at_ms) for at_ms in (29, 30, 40)] == [None, "two", "one"]
