"""Outages against the slow and obvious way: at every step all clients are looked at again. Hold 30 s, online at once, `within` 1 m."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import AlertLine
from engine.core.alerting.outages import is_down
from engine.core.presence.client_state import OFFLINE, ONLINE, UNKNOWN, Transition
from engine.core.rules import OutageTerms
from tests.core.worlds import POLICY, World, full, rule

SITES = {"a": "north", "b": "north", "c": "north", "d": "south", "e": "south", "f": ""}
TERMS = OutageTerms(by=("site",), at_least=2, percent=50, within_ms=60_000)

Step = tuple[int, str, bool]


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Seconds, client, is it up now."""
    second, up, found = 0, dict.fromkeys(SITES, False), []
    for _ in range(draw(st.integers(1, 30))):
        second += draw(st.sampled_from([0, 1, 7, 13, 29, 31, 59, 61]))
        client = draw(st.sampled_from(sorted(SITES)))
        up[client] = not up[client]
        found.append((second, client, up[client]))
    return found


@st.composite
def with_answers(draw: st.DrawFn) -> list[tuple[int, str, str]]:
    """Seconds, client, and connect, tcpclean, or what a query answers: no connection, one, or nothing known."""
    second, found = 0, []
    for _ in range(draw(st.integers(1, 40))):
        second += draw(st.sampled_from([0, 1, 6, 13, 31, 61]))
        what = draw(st.sampled_from(["connect", "tcpclean", "0", "0", "1", "none"]))
        found.append((second, draw(st.sampled_from(sorted(SITES))), what))
    return found


def told(story: list[Step]) -> World:
    """The story, with a look at the clock between its events."""
    attributes = {full(client): {"site": site} for client, site in SITES.items()}
    dark = rule("dark", "offline", flapping_skip=False)
    world = World(
        dark, rule("o", "outage", outage=TERMS), policy=replace(POLICY, flapping_start=100), attributes=attributes
    )
    for number, (second, client, is_up) in enumerate(story):
        channel = sum(1 for _, other, up in story[: number + 1] if other == client and up)
        world.tell(f"{second}s {client} {'connect' if is_up else 'tcpclean'} {client}{channel}")
    return world.run_on()


@settings(deadline=None)
@given(stories())
def test_an_outage_opens_exactly_when_looking_at_everybody_says_so(story: list[Step]) -> None:
    """While none is open at a site, each settling offline opens one just when enough are down, and enough of those who count."""
    observed = dict.fromkeys(SITES, UNKNOWN)
    occurred = dict.fromkeys(SITES, 0)
    events = iter(story)
    upcoming = next(events, None)
    open_at: dict[str, int] = {}
    lines = told(story).lines
    start_ms = 1_767_225_600_000
    for place, line in enumerate(lines):
        if isinstance(line, AlertLine) and line.rule == "o":
            site = (line.key or {})["site"]
            assert site
            open_at[site] = open_at.get(site, 0) + (1 if line.state == "firing" else -1)
        if not isinstance(line, Transition) or line.status != OFFLINE:
            continue
        at_ms = line.settled_at_ms - start_ms
        while upcoming is not None and upcoming[0] * 1_000 < at_ms:
            second, client, is_up = upcoming
            observed[client], occurred[client] = ONLINE if is_up else OFFLINE, second * 1_000
            upcoming = next(events, None)
        client = line.client.removeprefix("G@@@")
        site = SITES[client]
        if open_at.get(site):
            continue
        since = line.occurred_at_ms - start_ms - TERMS.within_ms
        here = [one for one in SITES if SITES[one] == site]
        down = [one for one in here if observed[one] == OFFLINE and occurred[one] >= since]
        online = [one for one in here if observed[one] == ONLINE]
        expected = bool(site) and len(down) >= 2 and len(down) * 2 >= len(down) + len(online)
        following = lines[place + 1] if place + 1 < len(lines) else None
        opened = isinstance(following, AlertLine) and following.rule == "o" and following.state == "firing"
        assert opened is expected


@settings(deadline=None)
@given(stories())
def test_counts_kept_by_each_change_are_the_counts_of_looking_at_everybody(story: list[Step]) -> None:
    check_counts(told(story))


@settings(deadline=None)
@given(with_answers())
def test_so_they_are_when_answers_correct_what_events_said(story: list[tuple[int, str, str]]) -> None:
    attributes = {full(client): {"site": site} for client, site in SITES.items()}
    world = World(rule("o", "outage", outage=TERMS), rule("dark", "offline"), attributes=attributes)
    for number, (second, client, what) in enumerate(story):
        if what in ("connect", "tcpclean"):
            world.tell(f"{second}s {client} {what} {client}{number // 3}")
        else:
            world.answer(f"{second}s", client, None if what == "none" else int(what), listed=True)
        check_counts(world)
    check_counts(world.run_on())


def check_counts(world: World) -> None:
    """The counts of every key, and of every outage."""
    watch = world.fleet.alerts.outages.watches["o"]
    for site in ("north", "south"):
        states = [world.fleet.state_of(full(one)) for one in SITES if SITES[one] == site]
        counts = watch.counts.get(f'{{"site": "{site}"}}')
        online, down = sum(state.observed == ONLINE for state in states), sum(is_down(state) for state in states)
        assert (
            (counts.online, len(counts.offline)) == (online, down) if counts is not None else (online, down) == (0, 0)
        )
    for outages in watch.outages.values():
        for outage in outages:
            assert outage.down == sum(outage.members.values()) > 0
            assert outage.peak >= outage.down
