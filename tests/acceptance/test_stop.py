"""SIGTERM under load: the batch in hand is finished, the rest is refused, and what was answered is there afterwards."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.acceptance.load import SOURCES, UNGUARDED, Load, rules_of
from tests.acceptance.service import service, sink


@pytest.mark.long
def test_sigterm_under_load_ends_it_well_and_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    with sink() as target, service(tmp_path, sources=SOURCES, deliveries=UNGUARDED) as running:
        running.rules(*rules_of(target.url))
        load = Load(running, 7, pause_s=0.003)
        load.start()
        for _ in range(6):
            running.start()
            threading.Event().wait(dice.uniform(0.0, 0.6))  # the moment of the signal, which nothing depends on
            assert running.terminate(within_s=15) == 0
        assert len(running.log_lines("service.stopped")) == 6
        running.start()
        load.stop()
        load.wait_quiet()
        load.check(target)
        running.terminate()
    assert "Traceback" not in running.log_text()


def test_sigterm_does_not_wait_for_a_target_that_hangs(tmp_path: Path) -> None:
    from tests.acceptance.service import Answer, answers, event, eventually, offline_rule

    with sink() as target, service(tmp_path) as running:
        target.answer = answers(Answer(204, after=threading.Event()))
        running.rules(offline_rule(target.url, hook={"timeout": "60s"}))
        running.start()
        running.tell(event("G@@@a", "connect", "1"))
        running.tell(event("G@@@a", "tcpclean", "1"))
        eventually(target.seen)
        assert running.terminate(within_s=30) == 0
        target.answer = answers(204)
        running.start()
        eventually(lambda: running.items("/v1/deliveries", state="delivered"))
        assert len(target.seen()) == 2 and len(target.first_seen()) == 1
    assert "Traceback" not in running.log_text()
