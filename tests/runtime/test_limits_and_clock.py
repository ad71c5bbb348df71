"""The writer and its store: a wall clock that is set, at every place of a crash; forgotten clients; too many clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.runtime.client_limit import CLIENT_BYTES, FEWEST, ClientLimit, default_limit, memory_bytes
from engine.runtime.retention import Retention
from engine.testing import START_MS, FakeClock, WriterBench, event, rule, temporary_folder

DAY_MS = 86_400_000
TEN_YEARS_MS = 3_650 * DAY_MS
DARK = rule("dark", "offline", repeat_ms=60_000)


def dark_bench(folder: Path, clock: FakeClock) -> WriterBench:
    return WriterBench(folder, DARK, clock=clock, checkpoint_rows=1, checkpoint_events=1)


def goes_dark(bench: WriterBench, at_ms: int = START_MS) -> None:
    bench.offer(event("G@@@p1", "connect", "A", at_ms), event("G@@@p2", "connect", "A", at_ms))
    bench.turn()
    bench.clock.advance(1_000)
    bench.offer(event("G@@@p1", "tcpclean", "A", at_ms + 1_000))
    bench.turn()


@pytest.mark.parametrize("step_ms", [-TEN_YEARS_MS, -120_000, 120_000, TEN_YEARS_MS])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_crash_around_a_step_changes_nothing_of_when_the_hold_is_over(step_ms: int, turns: int) -> None:
    with temporary_folder() as folder:
        clock = FakeClock()
        bench = dark_bench(folder, clock)
        goes_dark(bench)
        clock.set_wall(step_ms)
        bench.turn(turns)
        bench.close()
        if not turns and step_ms > 0:
            return  # nobody saw it: a stop of that length, which is time that has passed
        bench = dark_bench(folder, FakeClock(clock.at_ms))
        bench.turn()
        bench.clock.advance(29_999)
        bench.turn()
        assert bench.statuses()["G@@@p1"] == "online"
        bench.clock.advance(1)
        bench.turn()
        assert bench.statuses() == {"G@@@p1": "offline", "G@@@p2": "online"}
        bench.close()


def test_what_the_outbox_holds_grows_no_older_by_a_step_and_reminders_keep_their_pace() -> None:
    with temporary_folder() as folder:
        bench = dark_bench(folder, FakeClock())
        goes_dark(bench)
        bench.clock.advance(30_000)
        bench.turn()
        assert len(bench.offered) == 1
        bench.clock.set_wall(TEN_YEARS_MS)
        bench.turn()
        with bench.store.reading() as reader:
            row = reader.delivery(bench.offered[0].id)
            assert row is not None
            assert row.decided_at_ms == START_MS + 31_000 + TEN_YEARS_MS
        bench.clock.set_wall(-TEN_YEARS_MS)
        bench.turn()
        bench.clock.advance(59_999)
        bench.turn()
        assert len(bench.offered) == 1
        bench.clock.advance(1)
        bench.turn()
        assert [item.phase for item in bench.offered] == ["firing", "reminder"]
        bench.close()


def test_a_step_whose_commit_fails_is_taken_by_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder() as folder:
        bench = dark_bench(folder, FakeClock())
        goes_dark(bench)
        bench.clock.set_wall(-120_000)
        with monkeypatch.context() as patch:

            def full(step_ms: int, now_ms: int) -> None:
                raise StoreError("full")

            patch.setattr(bench.store, "step_clock", full)
            patch.setattr("engine.runtime.writer.RETRY_AFTER_S", 0.0)
            bench.turn()
            assert bench.clock.shifted_ms == 0 and bench.writer.failure == "full"
        bench.turn()
        assert bench.clock.shifted_ms == -120_000 and bench.writer.failure is None
        bench.clock.advance(30_000)
        bench.turn()
        assert bench.statuses()["G@@@p1"] == "offline"
        bench.close()


def test_a_batch_from_before_a_step_back_does_not_carry_its_instant_into_the_engine() -> None:
    with temporary_folder() as folder:
        bench = dark_bench(folder, FakeClock())
        goes_dark(bench)
        bench.clock.set_wall(-120_000)
        bench.offer(event("G@@@p2", "connect", "A"), received_at_ms=bench.clock.at_ms + 120_000)
        bench.turn()
        assert bench.fleet.clock_ms == bench.clock.at_ms
        assert bench.statuses()["G@@@p1"] == "online"
        bench.close()


def test_history_is_dropped_by_how_far_time_has_certainly_come() -> None:
    with temporary_folder() as folder:
        bench = dark_bench(folder, FakeClock())
        retention = Retention(bench.store, bench.writer._steady, 7 * DAY_MS)
        with bench.store.transaction():
            assert retention.before_ms(START_MS) == START_MS - 7 * DAY_MS
            assert retention.before_ms(START_MS + TEN_YEARS_MS) == START_MS - 7 * DAY_MS
            retention.heard(START_MS + DAY_MS)
            assert retention.before_ms(START_MS + TEN_YEARS_MS) == START_MS - 6 * DAY_MS
            bench.clock.advance(3_600_000)
            assert retention.certain_ms(START_MS + TEN_YEARS_MS) == START_MS + DAY_MS + 3_600_000
            retention.step(START_MS)
            assert retention.certain_ms(START_MS) == START_MS
        bench.close()


def test_who_was_forgotten_stays_so_over_a_restart() -> None:
    with temporary_folder() as folder:
        bench = dark_bench(folder, FakeClock())
        bench.fleet.tombstone_ms = DAY_MS
        goes_dark(bench)
        bench.submit(lambda: bench.fleet.forget("G@@@p1", bench.clock.now_ms()))
        bench.turn(3)
        bench.close()
        bench = WriterBench(folder, DARK, clock=FakeClock(START_MS + 5_000), tombstone_ms=DAY_MS)
        bench.offer(event("G@@@p1", "tcpclean", "A", START_MS + 500))
        bench.turn()
        bench.clock.advance(60_000)
        bench.turn()
        assert bench.statuses() == {"G@@@p2": "online"}
        assert bench.told == ["batch accepted"]
        bench.close()


def test_new_clients_beyond_the_limit_are_quarantined_and_known_ones_go_on() -> None:
    with temporary_folder() as folder:
        limit = ClientLimit(3, lambda client: client == "G@@@listed")
        bench = WriterBench(folder, DARK, client_limit=limit)
        bench.offer(*[event(f"G@@@d{number}") for number in range(5)])
        bench.offer(event("G@@@d0", "tcpclean"), event("G@@@new"), event("G@@@listed"))
        bench.turn(2)
        assert set(bench.statuses()) == {"G@@@d0", "G@@@d1", "G@@@d2", "G@@@listed"}
        assert bench.told == ["batch accepted", "batch accepted"]
        with bench.store.reading() as reader:
            reasons = [row.reason for row in reader.quarantine(limit=10, cursor=None)]
        assert reasons == ["a new client beyond the 3 of `clients.limit`"] * 3
        assert bench.writer.stats.clients_refused == 3
        assert "`clients.limit` is reached: 3 events" in str(limit.trouble(bench.clock.now_ms()))
        bench.close()


def test_the_default_follows_the_memory_of_machine_and_container(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("536870912\n")
    (tmp_path / "other").write_text("max\n")
    assert memory_bytes([tmp_path / "memory.max", tmp_path / "gone"]) == 536_870_912
    assert memory_bytes([tmp_path / "other"]) > 0
    assert default_limit(536_870_912) == 536_870_912 // 2 // CLIENT_BYTES
    assert default_limit(1) == FEWEST
