"""What the drawings about the fleet show, asked over HTTP of a real service; and how a time becomes steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.rules import OutageTerms
from engine.errors import BadQuestion
from engine.testing import WriterBench, rule, temporary_folder
from engine.testing import event as lifecycle
from engine.web import fleet_pictures
from engine.web.fleet_pictures import DAY_MS, MAX_POINTS, STEPS_MS, range_of
from tests.acceptance.service import Service, eventually, service

GROUP = "G<b>"


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    """A service that has just started."""
    with temporary_folder() as folder, service(folder) as found:
        found.start()
        yield found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WriterBench]:
    """A writer, and a group of which three of four clients go down in an outage, of which one comes back."""
    found = WriterBench(tmp_path, rule("site-down", "outage", outage=OutageTerms(at_least=3)))
    for kind, channel, numbers in (("connect", "A", range(4)), ("tcpclean", "A", range(3)), ("connect", "B", range(1))):
        found.offer(*(lifecycle(f"{GROUP}@@@d{n}", kind, channel, found.clock.now_ms()) for n in numbers))
        for _ in range(12):
            found.turn(2)
            found.clock.advance(5_000)
    found.clock.advance(1)
    found.turn(2)
    yield found
    found.close()


def test_the_fleets_curve_has_a_point_a_minute_and_names_outages(bench: WriterBench) -> None:
    with bench.store.reading() as reader:
        wanted = range_of(None, None, bench.clock.now_ms())
        found = fleet_pictures.fleet_curve(reader, wanted)
        of_group, of_none = (fleet_pictures.fleet_curve(reader, wanted, name) for name in (GROUP, "H"))
    assert [(one["online"], one["offline"], one["offline_peak"]) for one in found["items"]][1:] == [
        (4, 0, 0),
        (1, 3, 3),
        (2, 2, 2),
    ]
    assert (found["step"], found["group"], found["groups"]) == (60, None, [GROUP])
    assert [(one["rule"], one["resolved_at"]) for one in found["outages"]] == [("site-down", None)]
    assert of_group["items"] == [one | {"flaps": 0, "transitions": 0} for one in found["items"][1:]]
    assert of_none["items"] == []


def test_verdicts_say_how_long_half_and_nearly_all_took(bench: WriterBench) -> None:
    with bench.store.reading() as reader:
        found = fleet_pictures.verdict_latency(reader, range_of(None, None, bench.clock.now_ms(), 200))
    assert (found["online"]["verdicts"], found["offline"]["verdicts"]) == (5, 3)
    assert found["online"]["p99"] == 0 and 28 <= found["offline"]["p50"] <= found["offline"]["p99"] <= 33
    assert len(found["items"]) == 1 and found["items"][0]["offline"] == found["offline"]


def test_an_outage_says_how_many_are_back(bench: WriterBench) -> None:
    with bench.store.reading() as reader:
        (outage,) = reader.outages(0, bench.clock.now_ms())
        found = fleet_pictures.outage_progress(reader, outage.id, bench.clock.now_ms())
    assert [(one["total"], one["back"]) for one in found["items"]] == [(3, 0), (3, 1)]
    assert found["alert"]["id"] == outage.id


def test_a_service_answers_over_http(running: Service) -> None:
    found = eventually(lambda: running.get("/v1/fleet/curve"), lambda answer: answer["items"])
    assert found["items"][0]["online"] == 0 and found["outages"] == found["groups"] == []
    assert running.get("/v1/fleet/verdicts")["offline"] == {"verdicts": 0, "p50": None, "p99": None}
    assert running.send("GET", "/v1/alerts/none/progress").status_code == 404


@pytest.mark.parametrize(
    "query", ["from=5&to=5", "from=9&to=5", "from=x", "to=-1", "group=", "from=0&to=99999999999999", "limit=1"]
)
def test_a_question_that_makes_no_sense_is_refused(running: Service, query: str) -> None:
    assert running.send("GET", f"/v1/fleet/curve?{query}").status_code == 400


@given(st.integers(0, 1 << 46), st.integers(1, MAX_POINTS * STEPS_MS[-1] - 1), st.integers(2, MAX_POINTS))
def test_the_step_is_the_shortest_with_which_no_answer_is_too_long(start_ms: int, length_ms: int, most: int) -> None:
    try:
        found = range_of(start_ms, start_ms + length_ms, 0, most)
    except BadQuestion:
        assert length_ms // STEPS_MS[-1] >= most
        return
    assert length_ms // found.step_ms < most
    shorter = [step for step in STEPS_MS if step < found.step_ms]
    assert not shorter or length_ms // shorter[-1] >= most


def test_without_a_time_it_is_the_last_day() -> None:
    assert range_of(None, None, 3 * DAY_MS) == (2 * DAY_MS, 3 * DAY_MS, STEPS_MS[0])
    assert range_of(None, DAY_MS // 2, 3 * DAY_MS).from_ms == 0
