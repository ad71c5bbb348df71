"""§7: `deliveries.burst`: of more deliveries in a minute than that, the rest is held and one summary leaves. Hold 30 s."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core.alerting.rate_limit import MINUTE_MS, Burst
from tests.core.worlds import World, at, rule


def cut(count: int, instant: str = "0s", first: int = 0) -> list[str]:
    """`count` clients are lost."""
    return [f"{instant} p{number} tcpclean A" for number in range(first, first + count)]


def test_what_is_beyond_the_burst_is_held_and_one_summary_says_so() -> None:
    world = World(rule("r", "offline"), burst=2).tell(*cut(4)).run_on()
    assert world.deliveries == [
        "30s r > p0 log firing",
        "30s r > p1 log firing",
        "30s r > p2 log firing held",
        "30s r > p3 log firing held",
        "30s r > - log summary",
    ]
    summary = world.planned[-1]
    assert (summary.variables["alert"]["count"], summary.variables["alert"]["limit"]) == (2, 2)
    assert summary.lane not in {one.lane for one in world.planned[:-1]}


def test_a_storm_that_goes_on_stays_held_with_one_summary() -> None:
    story = [*cut(3), *cut(3, "40s", 3), *cut(3, "80s", 6)]
    world = World(rule("r", "offline"), burst=2).tell(*story).run_on()
    assert [line.split()[-1] for line in world.deliveries] == [
        "firing", "firing", "held", "summary", "held", "held", "held", "held", "held", "held",
    ]  # fmt: skip


def test_a_minute_later_deliveries_leave_again_and_a_new_burst_is_told_anew() -> None:
    world = World(rule("r", "offline"), burst=2).tell(*cut(3), *cut(3, "60s", 3)).run_on()
    assert [line.split()[-1] for line in world.deliveries] == ["firing", "firing", "held", "summary"] * 2


def test_exactly_the_burst_is_none() -> None:
    assert len(World(rule("r", "offline"), burst=3).tell(*cut(3)).run_on().deliveries) == 3


def test_each_rule_has_its_own_and_recoveries_count_too() -> None:
    world = World(rule("r", "offline", recovery=True), rule("s", "offline"), burst=2)
    world.tell(*cut(2), "40s p0 connect B").run_on()
    assert [line for line in world.deliveries if line.endswith("held")] == ["40s r > p0 log recovery held"]


def test_a_shadow_rule_sends_nothing_and_holds_nothing() -> None:
    assert len(World(rule("r", "offline", shadow=True), burst=1).tell(*cut(3)).run_on().deliveries) == 3


def test_no_guard_at_all() -> None:
    assert not [
        line for line in World(rule("r", "offline"), burst=0).tell(*cut(9)).run_on().deliveries if "held" in line
    ]


def test_a_removed_rule_has_nothing_to_summarize() -> None:
    burst = Burst("gone", [(at("0s"), 1)], 1)
    world = World(rule("r", "offline"))
    world.act(lambda fleet: fleet.alerts._notifier.rate_limited(None, burst, at("1s")))
    assert world.story == []


def test_bursts_in_which_nothing_counts_are_forgotten() -> None:
    world = World(rule("r", "offline")).tell(*cut(1)).pass_to("5m")
    world.act(lambda fleet: fleet.alerts.purge(at("5m")))
    assert world.fleet.alerts.rate_limits.bursts == {}
    assert world.fleet.alerts.out.bursts["r"].times == []


@given(st.lists(st.integers(0, 20_000), max_size=60), st.integers(1, 5))
def test_one_is_held_exactly_when_the_minute_before_it_has_as_many_as_the_limit(steps: list[int], limit: int) -> None:
    burst, decided, now = Burst("r"), list[int](), 0
    for step in steps:
        now += step
        young = [instant for instant in decided if now - instant < MINUTE_MS]
        assert burst.take(now, limit) is (len(young) >= limit)
        decided.append(now)
        assert burst.total <= limit
