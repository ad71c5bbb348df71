"""Windows of local time, cron expressions and intervals, also in the nights in which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.cron import MONTHS, cron, every
from engine.config.durations import parse_rfc3339
from engine.config.time_intervals import WEEKDAYS, windows
from engine.core.times import EPOCH, FOREVER, rfc3339

MINUTE_MS = 60_000
DAY_MINUTES = 24 * 60

NIGHTS = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "Africa/Casablanca": ("2026-02-15", "2026-03-22"),
    "Pacific/Apia": ("2011-12-30", "2011-12-30"),  # a day that did not exist
    "Asia/Kathmandu": ("2026-05-01", "2026-05-02"),  # never changed, a quarter of an hour beside the others
}


def at(text: str) -> int:
    """An instant, in milliseconds."""
    return parse_rfc3339(text)


def berlin(hours: str, *days: str) -> list[dict[str, object]]:
    """One window in Berlin."""
    return [{"hours": hours, "timezone": "Europe/Berlin", **({"days": list(days)} if days else {})}]


def edges(calendar_entries: list[dict[str, object]], begin: str, count: int) -> list[str]:
    """The next `count` instants at which the calendar really changes."""
    calendar, now = windows(calendar_entries), at(begin)
    found: list[str] = []
    while len(found) < count:
        before, now = calendar.covers(now), calendar.next_change_ms(now)
        if calendar.covers(now) != before:
            found.append(rfc3339(now))
    return found


@pytest.mark.parametrize(
    ("instant", "inside"),
    [
        ("2026-01-05T08:59:59.999+01:00", False),
        ("2026-01-05T09:00:00+01:00", True),
        ("2026-01-05T16:59:59.999+01:00", True),
        ("2026-01-05T17:00:00+01:00", False),
        ("2026-01-10T12:00:00+01:00", False),  # a Saturday
    ],
)
def test_a_window_holds_its_beginning_and_not_its_end(instant: str, inside: bool) -> None:
    assert windows(berlin("09:00-17:00", "mon-fri")).covers(at(instant)) is inside


@pytest.mark.parametrize(
    ("instant", "inside"),
    [
        ("2026-01-09T21:59:00+01:00", False),
        ("2026-01-09T22:00:00+01:00", True),  # Friday evening
        ("2026-01-10T05:59:59+01:00", True),  # still the window of Friday
        ("2026-01-10T06:00:00+01:00", False),
        ("2026-01-10T23:00:00+01:00", False),  # no window begins on a Saturday
        ("2026-01-05T03:00:00+01:00", False),  # nor on a Sunday: Monday's night has not begun
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(instant: str, inside: bool) -> None:
    assert windows(berlin("22:00-06:00", "mon-fri")).covers(at(instant)) is inside


def test_a_window_in_a_skipped_hour_begins_at_the_first_instant_after_it() -> None:
    assert edges(berlin("02:30-05:00", "sun"), "2026-03-28T12:00:00Z", 2) == [
        "2026-03-29T01:00:00.000Z",  # 03:00 there; 02:30 did not come
        "2026-03-29T03:00:00.000Z",
    ]


def test_a_window_inside_a_skipped_hour_does_not_open_that_day() -> None:
    assert edges(berlin("02:10-02:50", "sun"), "2026-03-28T12:00:00Z", 1) == ["2026-04-05T00:10:00.000Z"]


def test_a_window_in_a_repeated_hour_is_open_both_times() -> None:
    assert edges(berlin("02:30-02:45", "sun"), "2026-10-24T12:00:00Z", 4) == [
        "2026-10-25T00:30:00.000Z",
        "2026-10-25T00:45:00.000Z",
        "2026-10-25T01:30:00.000Z",
        "2026-10-25T01:45:00.000Z",
    ]


def test_a_window_may_last_all_week_and_never_changes() -> None:
    calendar = windows([{"hours": "00:00-24:00"}])
    assert calendar.covers(0)
    assert calendar.next_change_ms(0) == FOREVER


def test_windows_that_touch_are_one() -> None:
    entries: list[dict[str, object]] = [{"hours": "00:00-12:00"}, {"hours": "12:00-24:00"}]
    calendar = windows(entries)
    now = at("2026-01-01T00:00:00Z")
    for _ in range(3):
        now = calendar.next_change_ms(now)
        assert calendar.covers(now)


def test_no_window_at_all_covers_nothing() -> None:
    assert not windows([]).covers(0)
    assert windows([]).next_change_ms(0) == FOREVER


def test_days_alone_are_whole_days_of_that_place() -> None:
    entries: list[dict[str, object]] = [{"days": ["sat-sun"], "timezone": "Asia/Tokyo"}]
    assert edges(entries, "2026-01-01T00:00:00Z", 2) == ["2026-01-02T15:00:00.000Z", "2026-01-04T15:00:00.000Z"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"hours": "9-17"}, 'hours: `9-17` is not a range of hours such as "22:00-06:00"'),
        ({"hours": "09:00-25:00"}, "hours: `09:00-25:00` contains an hour that does not exist: use 00:00 to 24:00"),
        ({"hours": "24:00-06:00"}, "hours: `24:00-06:00` contains an hour that does not exist: use 00:00 to 24:00"),
        ({"hours": "09:60-17:00"}, 'hours: `09:60-17:00` is not a range of hours such as "22:00-06:00"'),
        (
            {"hours": "08:00-08:00"},
            'hours: `08:00-08:00` ends when it begins: write "00:00-24:00" for the whole day',
        ),
        (
            {"days": ["mon-fry"]},
            "days: `mon-fry` is not a day: write mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri",
        ),
        ({"days": []}, "days: is empty: leave the key out for every day"),
        (
            {"hours": "08:00-09:00", "timezone": "Europe/Berlln"},
            "timezone: `Europe/Berlln` is not a time zone such as Europe/Berlin or UTC; did you mean `Europe/Berlin`?",
        ),
        ({}, 'needs `days`, `hours` or `dates`; for every moment write hours: "00:00-24:00"'),
    ],
)
def test_a_window_that_cannot_be_read_is_reported_in_a_sentence(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        windows([entry])
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/localtime", "", "Europe", "a\0b", "x" * 300])
def test_a_time_zone_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        cron("0 8 * * *", name)


def ticks(expression: str, zone: str, begin: str, count: int) -> list[str]:
    """The first `count` ticks after an instant."""
    source, now, found = cron(expression, zone), at(begin), []
    for _ in range(count):
        now = source.next_after(now)
        found.append(rfc3339(now))
    return found


@pytest.mark.parametrize(
    ("weekday", "dates"),
    [
        ("0", ["04", "11"]),  # 2026-01-04 is a Sunday
        ("7", ["04", "11"]),
        ("sun", ["04", "11"]),
        ("1", ["05", "12"]),
        ("SAT", ["03", "10"]),
        ("1-5", ["01", "02", "05"]),
        ("mon-fri", ["01", "02", "05"]),
        ("5-7", ["02", "03", "04", "09"]),
        ("0-2", ["04", "05", "06", "11"]),
        ("fri-mon", ["02", "03", "04", "05", "09"]),
        ("6-1", ["03", "04", "05", "10"]),
        ("*/2", ["01", "03", "04", "06"]),  # 0, 2, 4, 6
        ("1-5/2", ["02", "05", "07"]),
        ("mon-fri/2", ["02", "05", "07"]),
        ("sat,3", ["03", "07", "10"]),
    ],
)
def test_weekdays_are_numbered_as_cron_numbers_them(weekday: str, dates: list[str]) -> None:
    found = ticks(f"0 8 * * {weekday}", "UTC", "2026-01-01T00:00:00Z", len(dates))
    assert found == [f"2026-01-{date}T08:00:00.000Z" for date in dates]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/20 * * * *", ["2026-01-01T00:20", "2026-01-01T00:40", "2026-01-01T01:00"]),
        ("5/30 * * * *", ["2026-01-01T00:05", "2026-01-01T00:35", "2026-01-01T01:05"]),
        ("0 22-23,0-1 * * *", ["2026-01-01T01:00", "2026-01-01T22:00", "2026-01-01T23:00", "2026-01-02T00:00"]),
        ("0 0 31 * *", ["2026-01-31T00:00", "2026-03-31T00:00"]),
        ("0 0 1 jan-jul/3 *", ["2026-04-01T00:00", "2026-07-01T00:00", "2027-01-01T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ],
)
def test_a_cron_expression_ticks_when_it_says(expression: str, expected: list[str]) -> None:
    found = ticks(expression, "UTC", "2026-01-01T00:00:00Z", len(expected))
    assert found == [f"{text}:00.000Z" for text in expected]


def test_a_named_hour_that_is_skipped_ticks_once_at_the_change() -> None:
    assert ticks("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) == [
        "2026-03-29T01:00:00.000Z",
        "2026-03-30T00:15:00.000Z",
    ]


def test_a_named_hour_that_comes_twice_ticks_the_first_time() -> None:
    assert ticks("15,45 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3) == [
        "2026-10-25T00:15:00.000Z",
        "2026-10-25T00:45:00.000Z",
        "2026-10-26T01:15:00.000Z",
    ]


def test_every_hour_is_every_hour_in_both_nights() -> None:
    for begin in ("2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"):
        source, now = cron("30 * * * *", "Europe/Berlin"), at(begin)
        for hour in range(6):
            now = source.next_after(now)
            assert now == at(begin) + 30 * MINUTE_MS + hour * 60 * MINUTE_MS


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 8 * *", "`0 8 * *` has 4 fields, not 5: minute, hour, day of month, month, day of week"),
        ("60 8 * * *", "`60` is not a valid minute: 0 to 59"),
        ("0 24 * * *", "`24` is not a valid hour: 0 to 23"),
        ("0 8 0 * *", "`0` is not a valid day of month: 1 to 31"),
        ("0 8 * 13 *", "`13` is not a valid month: jan to dec, 1 to 12"),
        ("0 8 * * 8", "`8` is not a valid day of week: sun to sat, 0 to 7"),
        ("0 8 * * mo", "`mo` is not a valid day of week: sun to sat, 0 to 7"),
        ("0 8 * * mon-", "`mon-` is not a valid day of week: write *, 5, 1-5, */10 or a list of these"),
        ("*/0 8 * * *", "`*/0` has a step of 0"),
        ("0 22-2 * * *", "`22-2` ends before it begins: write two ranges such as 22-23,0-5"),
        ("0 0 31 2,4 *", "`0 0 31 2,4 *` never happens: no such month has that day"),
        (
            "0 8 1 * mon",
            "`0 8 1 * mon` names days of the month and days of the week, and programs disagree "
            + "whether either or both must match: name only one of them",
        ),
    ],
)
def test_a_cron_expression_that_cannot_be_read_is_reported_in_a_sentence(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        cron(expression)
    assert str(error.value) == message


def test_an_interval_ticks_from_its_anchor_on_and_before_it() -> None:
    source = every(100, anchor_ms=1_030)
    assert [source.next_after(at_ms) for at_ms in (0, 1_029, 1_030, 1_130, 1_131)] == [30, 1_030, 1_130, 1_230, 1_230]
    with pytest.raises(ValueError, match="must be longer than 0"):
        every(0)


@pytest.mark.parametrize("ask", [windows([{"hours": "01:00-02:00"}]).next_change_ms, cron("0 0 * * *").next_after])
def test_at_the_end_of_time_nothing_comes_any_more(ask: object) -> None:
    assert callable(ask)
    assert ask(FOREVER) == FOREVER


# Against an oracle that walks minute by minute, in the nights in which clocks are changed.


def wall(minute: int, zone: str) -> datetime:
    """What a clock on the wall shows at a minute since 1970."""
    return (EPOCH + timedelta(minutes=minute)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a minute in the days around one of its changes."""
    zone = draw(st.sampled_from(sorted(NIGHTS)))
    night = datetime.fromisoformat(draw(st.sampled_from(NIGHTS[zone]))).replace(tzinfo=UTC)
    return zone, int(night.timestamp()) // 60 + draw(st.integers(-2 * DAY_MINUTES, DAY_MINUTES))


CLOCK = st.integers(0, DAY_MINUTES // 10 - 1).map(lambda tens: f"{tens // 6:02}:{tens % 6 * 10:02}")
DAYS = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4, unique=True)


@st.composite
def window_entries(draw: st.DrawFn, zone: str) -> dict[str, object]:
    """One entry, in a zone or in UTC."""
    entry: dict[str, object] = {"timezone": draw(st.sampled_from([zone, "UTC"]))}
    if draw(st.booleans()):
        entry["days"] = draw(DAYS)
    if draw(st.booleans()) or "days" not in entry:
        begin = draw(CLOCK)
        entry["hours"] = f"{begin}-{draw(CLOCK.filter(lambda end: end != begin) | st.just('24:00'))}"
    return entry


def shown_inside(entry: dict[str, object], minute: int) -> bool:
    """The oracle: looks at the clock on the wall, and if the window is over midnight at yesterday's name too."""
    shown = wall(minute, str(entry["timezone"]))
    begin, end = str(entry.get("hours", "00:00-24:00")).split("-")
    days = entry.get("days", WEEKDAYS)
    assert isinstance(days, list | tuple)
    today, yesterday = f"{shown:%a}".lower(), f"{shown - timedelta(days=1):%a}".lower()
    clock = f"{shown:%H:%M}"
    if begin < end:
        return today in days and begin <= clock < end
    return (today in days and begin <= clock) or (yesterday in days and clock < end)


@given(st.data())
def test_a_calendar_agrees_with_one_that_looks_at_the_clock_every_minute(data: st.DataObject) -> None:
    zone, first = data.draw(places())
    entries = data.draw(st.lists(window_entries(zone), min_size=1, max_size=3))
    calendar = windows(entries)
    answer, change_ms = calendar.covers(first * MINUTE_MS), calendar.next_change_ms(first * MINUTE_MS)
    for minute in range(first, first + 2 * DAY_MINUTES):
        expected = any(shown_inside(entry, minute) for entry in entries)
        fresh = windows(entries).covers(minute * MINUTE_MS + 59_999) if minute % 97 == 0 else expected
        assert fresh == expected
        if minute * MINUTE_MS >= change_ms:
            answer, change_ms = calendar.covers(change_ms), calendar.next_change_ms(change_ms)
        assert answer == expected, f"{entries} at {wall(minute, zone)}"


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """A cron expression of few ticks a day."""
    minute = draw(st.sampled_from(["0", "30", "59", "*/15", "10,20", "0-4"]))
    hour = draw(st.sampled_from(["*", "*/2", "0", "1", "2", "3", "1-3", "0,2", "2/5", "23"]))
    return f"{minute} {hour} * * {draw(st.sampled_from(['*', '*', '0', 'sat-mon', '1-5']))}"


NUMBERS = {"minute": range(60), "hour": range(24)}


def named(field: str, every_value: range) -> set[int]:
    """The oracle's reading of a field of numbers."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        first = 0 if low == "*" else int(low)
        last = int(high) if high else every_value[-1] if low == "*" or step else first
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def walked_ticks(expression: str, zone: str, first: int, last: int) -> list[int]:
    """The oracle: goes minute by minute from a day before, and remembers the latest time that the wall has shown."""
    minutes, hours, _, _, weekdays = expression.split()
    minute_set, hour_set = named(minutes, NUMBERS["minute"]), named(hours, NUMBERS["hour"])
    day_set = {"*": {*WEEKDAYS}, "0": {"sun"}, "sat-mon": {"sat", "sun", "mon"}, "1-5": {*WEEKDAYS[:5]}}[weekdays]

    def is_named(shown: datetime) -> bool:
        return shown.minute in minute_set and shown.hour in hour_set and f"{shown:%a}".lower() in day_set

    found, latest = [], wall(first - 2 * DAY_MINUTES, zone)
    for minute in range(first - 2 * DAY_MINUTES + 1, last):
        shown = wall(minute, zone)
        if hours.startswith("*"):
            ticks_now = is_named(shown)
        else:
            new = [latest + timedelta(minutes=more) for more in range(1, (shown - latest) // timedelta(minutes=1) + 1)]
            ticks_now = any(is_named(each) for each in new)
        latest = max(latest, shown)
        if ticks_now and minute > first:
            found.append(minute)
    return found


@given(places(), expressions())
def test_cron_agrees_with_one_that_walks_minute_by_minute(place: tuple[str, int], expression: str) -> None:
    zone, first = place
    last = first + 3 * DAY_MINUTES
    source, now, found = cron(expression, zone), first * MINUTE_MS, []
    while (now := source.next_after(now)) < last * MINUTE_MS:
        found.append(now // MINUTE_MS)
    assert found == walked_ticks(expression, zone, first, last)


@given(places(), expressions(), st.integers(0, 3 * DAY_MINUTES * MINUTE_MS))
def test_the_next_tick_does_not_depend_on_when_it_is_asked_for(
    place: tuple[str, int], expression: str, later_ms: int
) -> None:
    zone, first = place
    source, begin = cron(expression, zone), first * MINUTE_MS
    asked = begin + later_ms
    now = begin
    while now <= asked:
        now = source.next_after(now)
    assert source.next_after(asked) == now


def test_month_names_are_those_of_cron() -> None:
    assert [ticks(f"0 0 1 {name} *", "UTC", "2025-12-31T00:00:00Z", 1)[0][5:7] for name in MONTHS] == [
        f"{number:02}" for number in range(1, 13)
    ]


def test_dates_name_the_day_on_which_a_window_begins() -> None:
    over_midnight: list[dict[str, object]] = [
        {"dates": "2026-12-31", "hours": "22:00-06:00", "timezone": "Europe/Berlin"}
    ]
    assert edges(over_midnight, "2026-01-01T00:00:00Z", 2) == ["2026-12-31T21:00:00.000Z", "2027-01-01T05:00:00.000Z"]
    mondays_of_a_week: list[dict[str, object]] = [{"dates": ["2026-12-21/2026-12-27"], "days": ["mon"]}]
    assert edges(mondays_of_a_week, "2026-12-01T00:00:00Z", 2) == [
        "2026-12-21T00:00:00.000Z",
        "2026-12-22T00:00:00.000Z",
    ]


def test_after_the_last_of_its_dates_a_window_never_changes() -> None:
    calendar = windows([{"dates": ["2020-01-01", "2026-01-01"]}])
    assert calendar.next_change_ms(at("2026-01-02T00:00:00Z")) == FOREVER
    assert calendar.next_change_ms(at("2026-01-01T12:00:00Z")) == at("2026-01-02T00:00:00Z")


@given(
    st.integers(0, 400),
    st.integers(0, 30),
    st.integers(0, 24 * 60),
    st.sampled_from(["UTC", "Pacific/Apia"]),
    st.booleans(),
)
def test_no_instant_before_the_next_change_is_otherwise(
    first: int, length: int, minute: int, zone: str, over_midnight: bool
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=first)
    dates = f"{begin:%Y-%m-%d}/{begin + timedelta(days=length):%Y-%m-%d}"
    calendar = windows([{"dates": dates, "hours": "22:00-06:00" if over_midnight else "08:00-18:00", "timezone": zone}])
    now = at("2026-02-01T00:00:00Z") + minute * MINUTE_MS
    change = calendar.next_change_ms(now)
    assert change > now
    for part in range(50):
        assert calendar.covers(now + (min(change, now + 86_400_000 * 400) - 1 - now) * part // 50) == calendar.covers(
            now
        )
