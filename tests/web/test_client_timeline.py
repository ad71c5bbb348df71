"""A client's timeline as a drawing: what is where, what each mark says, that hostile names stay text, that its size is bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.inventory import Inventory
from engine.core.times import rfc3339
from engine.runtime.history_codec import HistoryCodec
from engine.testing import POLICY, START_MS, WriterBench, event, rule
from engine.web.client_picture import MAX_ENTRIES, client_picture
from engine.web.drawings.client_timeline import Links, client_timeline
from engine.web.drawings.time_axis import MAX_TICKS, TimeAxis, instant_ms

MINUTE = 60_000
CLIENT = "G@@@p<i>\u202e"
LINKS = Links(
    alert=lambda id_: f"alert/{id_}",
    delivery=lambda id_: f"delivery/{id_}",
    zoom=lambda from_, to: f"?from={from_}&to={to}",
)
NAMES = {
    "figure", "svg", "g", "a", "title", "desc", "defs", "pattern", "rect", "path", "circle", "line", "text", "tspan", "ul", "li",
    "figcaption", "time", "nav", "details", "summary", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "span",
}  # fmt: skip


def at(minutes: float) -> str:
    return rfc3339(START_MS + round(minutes * MINUTE))


def picture(**more: Any) -> dict[str, Any]:
    """Two hours in which nothing happened, and what a test adds."""
    nothing: dict[str, Any] = {key: [] for key in ("statuses", "holds", "channels", "entries", "alerts", "deliveries")}
    return {"client": CLIENT, "from": at(0), "to": at(120), "complete_from": None} | nothing | more


def entry(minutes: float, kind: str = "connect", arrived: float | None = None, **more: Any) -> dict[str, Any]:
    found = {
        "position": round(minutes * 1000),
        "at": at(minutes if arrived is None else arrived),
        "kind": "event",
        "type": kind,
        "time": at(minutes),
        "channel": "A",
        "ip": "10.0.0.1:5",
        "source": "log",
        "used": True,
        "why": "it is used",
    }
    return found | more


def alert(started: float, fired: float | None, resolved: float | None, **more: Any) -> dict[str, Any]:
    found = {
        "id": "a1",
        "rule": "dark",
        "client": CLIENT,
        "key": None,
        "state": "firing" if resolved is None else "resolved",
        "reason": None,
        "started_at": at(started),
        "fired_at": None if fired is None else at(fired),
        "resolved_at": None if resolved is None else at(resolved),
        "acknowledged_by": None,
    }
    return found | more


def delivery(minutes: float, state: str = "delivered", number: int = 7) -> dict[str, Any]:
    return {
        "id": number,
        "rule": "dark",
        "target": "https://pager",
        "state": state,
        "phase": "firing",
        "decided_at": at(minutes),
    }


def channel(start: float | None, closed: float | None, until: float, **more: Any) -> dict[str, Any]:
    found = {
        "channel": "A",
        "ip": "10.0.0.1",
        "from": None if start is None else at(start),
        "disconnected_at": None,
        "to": None if closed is None else at(closed),
        "until": at(until),
        "end": "live" if closed is None else "closed",
    }
    return found | more


def drawn(found: dict[str, Any], links: Links = LINKS) -> Element:
    """The drawing as a tree; it is well-formed and made of what drawings are made of."""
    tree = ElementTree.fromstring(str(client_timeline(found, links=links)))
    assert {one.tag for one in tree.iter()} <= NAMES
    return tree


def of_class(tree: Element, kind: str) -> list[Element]:
    return [one for one in tree.iter() if kind in one.get("class", "").split()]


def places(tree: Element, kind: str) -> list[tuple[float, float]]:
    """Where the bars of a class begin, and how wide they are, in percent."""
    bars = [one for one in of_class(tree, kind) if one.tag == "rect" and one.get("x") is not None]
    return [(float(str(one.get("x"))[:-1]), float(str(one.get("width"))[:-1])) for one in bars]


def marks(tree: Element, kind: str) -> list[float]:
    """Where the marks of a class are in the picture, in percent; the key has some too."""
    (picture_,) = of_class(tree, "d-picture")
    found = [
        one for one in picture_.iter("svg") if one.get("x") and len(one) and kind in one[0].get("class", "").split()
    ]
    return [float(str(one.get("x"))[:-1]) for one in found]


def words(tree: Element) -> str:
    return " | ".join(title.text or "" for title in tree.iter("title"))


def test_statuses_and_holds_lie_where_they_were() -> None:
    tree = drawn(
        picture(
            statuses=[
                {"status": "online", "from": at(0), "to": at(60)},
                {"status": "offline", "from": at(60), "to": at(90)},
                {"status": "online", "from": at(90), "to": at(120)},
            ],
            holds=[{"status": "offline", "from": at(54), "to": at(60), "settled": True}],
        )
    )
    assert places(tree, "d-online") == [(0, 50), (75, 25)]
    assert places(tree, "d-offline") == [(50, 25)]
    assert places(tree, "d-hold") == [(45, 5)]
    assert "offline: 2026-01-01 01:00:00 UTC to 2026-01-01 01:30:00 UTC, 30m" in words(tree)
    (hold,) = of_class(tree, "d-hold")
    assert hold.get("fill") == "url(#timeline-offline)" and "timeline-offline" in {one.get("id") for one in tree.iter()}


def test_connections_are_bars_from_connect_to_close_and_say_how_they_ended() -> None:
    tree = drawn(
        picture(
            channels=[
                channel(12, 48, 48, channel="first"),
                channel(60, None, 72, channel="second", end="lost"),
                channel(None, None, 120, channel="third"),
            ]
        )
    )
    assert sorted(places(tree, "d-channel")) == [(0, 100), (10, 30), (50, 10)]
    assert len(places(tree, "d-end-lost")) == 1
    for said in ("connected before that, live", "its close was never seen", "closed 2026-01-01 00:48:00 UTC"):
        assert said in words(tree)


def test_an_event_lies_at_the_brokers_time_and_a_late_one_has_a_tail_to_its_arrival() -> None:
    tree = drawn(picture(channels=[channel(12, None, 120)], entries=[entry(12), entry(60, "tcpclean", arrived=90)]))
    assert marks(tree, "d-connect") == [10] and marks(tree, "d-tcpclean") == [50]
    assert marks(tree, "d-arrived") == [75]
    (tail,) = of_class(tree, "d-late")
    assert (tail.get("x1"), tail.get("x2")) == ("50.00%", "75.00%")
    assert "received 30m later" in words(tree)


def test_an_event_that_was_delivered_again_is_hollow_and_says_why() -> None:
    again = entry(60, used=False, why="a duplicate of an earlier event")
    tree = drawn(picture(channels=[channel(60, None, 120)], entries=[entry(60), again]))
    assert marks(tree, "d-unused") == [50] and marks(tree, "d-event") == [50, 50]
    assert "not used: a duplicate of an earlier event" in words(tree)
    usual = drawn(picture(channels=[channel(60, None, 120)], entries=[entry(60)]))
    assert not of_class(usual, "d-unused") and not of_class(usual, "d-late")


def test_an_alert_is_thin_while_pending_and_leads_to_its_page_and_so_does_a_delivery() -> None:
    tree = drawn(
        picture(
            alerts=[
                alert(30, 60, 90),
                alert(96, None, None, id="a2", rule="quiet", state="suppressed", reason="silence"),
            ],
            deliveries=[delivery(60), delivery(90, "dead", 8), delivery(102, "held", 9)],
        )
    )
    assert places(tree, "d-firing") == [(50, 25)] and (25, 25) in places(tree, "d-pending")
    assert places(tree, "d-suppressed") == [(80, 20)]
    targets = [one.get("href") for one in tree.iter("a")]
    assert {"alert/a1", "alert/a2", "delivery/7", "delivery/8", "delivery/9"} <= set(targets)
    assert sorted(marks(tree, "d-delivery")) == [50, 75, 85]
    rows = list(tree.iter("tr"))[1:]
    assert len(rows) == 5, "the table says the same"


def test_a_part_between_ticks_zooms_to_it_and_controls_move_on() -> None:
    tree = drawn(picture())
    targets = {str(one.get("href")) for one in tree.iter("a")}
    hour = START_MS + 60 * MINUTE
    assert f"?from={hour - 10 * MINUTE}&to={hour}" in targets
    assert f"?from={START_MS - hour + START_MS}&to={hour}" in targets, "an hour earlier"
    assert not list(drawn(picture(), Links()).iter("a")), "without addresses there are no links"


def test_what_is_older_than_what_was_read_is_marked() -> None:
    tree = drawn(picture(complete_from=at(30)))
    assert places(tree, "d-nothing") == [(0, 25)]


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "</svg><script>alert(1)</script>",
        '" onload="x',
        "'><img src=x>",
        "]]>",
        "&amp;",
        "\x00\x1b[31m",
        "\u202eabc",
        "a" * 300,
    ]
)


@settings(max_examples=60)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_that_a_device_or_a_rule_writes_leaves_its_place(name: str, one: str, other: str) -> None:
    found = picture(
        client=name,
        channels=[channel(1, 2, 2, channel=one, ip=other)],
        entries=[entry(1, channel=one, why=other, ip=other)],
        alerts=[alert(1, 2, 3, rule=one, id=other, reason=name)],
        deliveries=[delivery(1) | {"rule": other, "target": one}],
    )
    links = Links(alert=lambda id_: "alert", delivery=lambda id_: "delivery")
    usual = drawn(
        picture(
            channels=[channel(1, 2, 2)],
            entries=[entry(1)],
            alerts=[alert(1, 2, 3, reason="x")],
            deliveries=[delivery(1)],
        ),
        links,
    )
    tree = drawn(found, links)
    assert [element.tag for element in tree.iter() if element.tag != "text"] == [
        element.tag for element in usual.iter() if element.tag != "text"
    ]
    assert {key for element in tree.iter() for key in element.keys()} == {  # noqa: SIM118
        key
        for element in usual.iter()
        for key in element.keys()  # noqa: SIM118
    }


def busy(count: int) -> dict[str, Any]:
    """Two hours of a client that never rests."""
    share = 120 / count
    kinds = ("connect", "disconnect", "tcpclean")
    return picture(
        statuses=[
            {"status": ("online", "offline")[n % 2], "from": at(n * share), "to": at((n + 1) * share)}
            for n in range(count)
        ],
        holds=[
            {"status": "offline", "from": at(n * share), "to": at((n + 1) * share), "settled": True}
            for n in range(count)
        ],
        channels=[channel(n * share, (n + 1) * share, (n + 1) * share, channel=str(n)) for n in range(count)],
        entries=[entry(n * share, kinds[n % 3], used=n % 5 > 0, channel=str(n // 3)) for n in range(count)],
        alerts=[alert(n * share, n * share, (n + 1) * share, rule=f"r{n % 50}") for n in range(count // 10)],
        deliveries=[delivery(n * share, ("delivered", "dead", "held")[n % 3]) for n in range(count // 10)],
    )


def test_the_most_that_a_page_asks_for_is_drawn_in_a_bounded_size() -> None:
    found = client_timeline(busy(MAX_ENTRIES), links=LINKS)
    assert len(found) < 1_200_000, f"{len(found):,}"
    assert "5,800 more are not listed here" in found


@pytest.mark.long
def test_twenty_times_as_many_entries_make_a_drawing_of_the_same_size() -> None:
    assert len(client_timeline(busy(20 * MAX_ENTRIES), links=LINKS)) < 1_200_000


@given(st.integers(0, 4_000_000_000_000), st.integers(1, 3_000_000_000_000))
def test_ticks_are_few_round_and_inside(start_ms: int, length_ms: int) -> None:
    axis = TimeAxis(start_ms, start_ms + length_ms)
    found = axis.ticks()
    assert len(found) <= MAX_TICKS + 1
    assert all(axis.holds(tick.at_ms) and tick.at_ms % 1_000 == 0 for tick in found)
    assert all(re.fullmatch(r"\d\d:\d\d(:\d\d)?|\d{1,2} [A-Z][a-z]{2}", tick.words) for tick in found)
    assert [axis.x(start_ms - 5), axis.x(start_ms), axis.x(start_ms + length_ms)] == [0, 0, 1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WriterBench]:
    found = WriterBench(tmp_path, rule("dark", "offline", recovery=True))
    yield found
    found.close()


def looked_at(bench: WriterBench, minutes: float = 60) -> dict[str, Any]:
    with bench.store.reading() as reader:
        state = bench.fleet.published(CLIENT)
        assert state is not None
        codec = HistoryCodec(Inventory((), ()))
        return client_picture(reader, CLIENT, state, POLICY, codec, START_MS, START_MS + round(minutes * MINUTE))


def tell(bench: WriterBench, minutes: float, kind: str, name: str, happened: float | None = None) -> None:
    """An event arrives at a minute; `happened`: when it occurred, if not then."""
    bench.clock.at_ms = START_MS + round(minutes * MINUTE)
    bench.turn()
    bench.offer(event(CLIENT, kind, name, START_MS + round((minutes if happened is None else happened) * MINUTE)))
    bench.turn()


def test_a_real_history_becomes_a_picture_of_it(bench: WriterBench) -> None:
    tell(bench, 1, "connect", "A")
    tell(bench, 10, "tcpclean", "A")
    tell(bench, 10.25, "connect", "B")  # within the hold of 30 s
    tell(bench, 20, "tcpclean", "B")
    bench.clock.at_ms = START_MS + round(20.5 * MINUTE)
    bench.turn(2)
    tell(bench, 30, "connect", "C")
    tell(bench, 31, "connect", "C", happened=30)  # again, and late
    tell(bench, 40, "connect", "D")  # the close of C is lost
    found = looked_at(bench)
    assert [(one["status"], one["from"], one["to"]) for one in found["statuses"]] == [
        ("online", at(1), at(20.5)),
        ("offline", at(20.5), at(30)),
        ("online", at(30), at(60)),
    ]
    assert [(one["from"], one["to"], one["settled"]) for one in found["holds"]] == [
        (at(10), at(10.25), False),
        (at(20), at(20.5), True),
    ]
    assert [(one["channel"], one["from"], one["until"], one["end"]) for one in found["channels"]] == [
        ("A", at(1), at(10), "closed"),
        ("B", at(10.25), at(20), "closed"),
        ("C", at(30), at(40), "lost"),
        ("D", at(40), at(60), "live"),
    ]
    assert [(one["started_at"], one["resolved_at"]) for one in found["alerts"]] == [(at(20.5), at(30))]
    assert [(one["phase"], one["decided_at"]) for one in found["deliveries"]] == [
        ("recovery", at(30)),
        ("firing", at(20.5)),
    ]
    events = [one for one in found["entries"] if one["kind"] == "event"]
    assert [one["used"] for one in events] == [True] * 5 + [False, True] and found["complete_from"] is None
    tree = drawn(found)
    assert marks(tree, "d-unused") == [50] and instant_ms(found["from"]) == START_MS


def test_a_part_of_a_history_begins_with_the_state_of_that_time(bench: WriterBench) -> None:
    for number in range(100):
        tell(bench, number + 1, "connect", f"c{number}")
        tell(bench, number + 1.2, "tcpclean", f"c{number}")
    with bench.store.reading() as reader:
        state = bench.fleet.published(CLIENT)
        assert state is not None
        found = client_picture(
            reader,
            CLIENT,
            state,
            POLICY,
            HistoryCodec(Inventory((), ())),
            START_MS + 80 * MINUTE,
            START_MS + 90 * MINUTE,
        )
    assert found["statuses"][0]["from"] == at(80) and {at(80) <= one["at"] <= at(90) for one in found["entries"]} == {
        True
    }
    assert len(found["channels"]) == 11 and found["complete_from"] is None
