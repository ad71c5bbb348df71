"""What goes wrong in each hour of a day: how it begins and ends, what `/readyz` must say of it, and who is spared. Read `HOURS`."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.acceptance.service import eventually
from tests.acceptance.test_targets import children
from tests.hostile import mail_server, receiver
from tests.hostile.bad_server import Behaviour, after, relay, says_nothing
from tests.hostile.day import ENDS, Day
from tests.hostile.senders import misbehave
from tests.hostile.serving import Line

Readyz = dict[str, Any]
STEP_MS = 20_000
"""Three simulated hours, and more than every hold."""

NO_ROOM_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """`names` (an expression) begins every sentence of `/readyz` about it, and `is_ready` what it makes of the whole; empty: it must say nothing.

    `spared`: rules whose neighbours hear everything while it lasts; None: verdicts wait for the end of it.
    `also`: what may be said of it as well, for as long as it takes to notice. `leaves`: what may stay in `degraded` for longer than the hour, because the contract says so.
    """

    name: str
    begin: Callable[[Day], object]
    end: Callable[[Day], object]
    names: str = ""
    is_ready: bool = True
    spared: tuple[str, ...] | None = ENDS
    also: str = ""
    leaves: str = ""


def without(rule: str) -> tuple[str, ...]:
    return tuple(name for name in ENDS if name != rule)


# Neighbours that are written to


def as_receiver(name: str) -> Behaviour:
    """What the bad receiver does once it has a request."""

    def behave(connection: socket.socket) -> None:
        if connection.recv(65_536):
            receiver.BEHAVIOURS[name](Line(connection))

    return behave


def bad_receiver(name: str) -> Hour:
    return Hour(
        name=f"the webhook receiver: {name}",
        begin=lambda day: day.shaky.change(as_receiver(name)),
        end=lambda day: day.shaky.change(relay(day.shaky_end.port)),
        names="deliveries to http://127.0.0.1:{shaky}",
        spared=without("shaky"),
    )


def bad_mail_server(name: str) -> Hour:
    return Hour(
        name=f"the mail server: {name}",
        begin=lambda day: day.mail.change(lambda connection: mail_server.serving(name)(Line(connection))),
        end=lambda day: day.mail.change(relay(day.office.port)),
        names="deliveries to smtp",
        spared=without("mailed"),
    )


def bad_status_service(name: str, behaviour: Behaviour) -> Hour:
    def end(day: Day) -> None:
        """Nobody knows that it is well before it is asked again, and it is asked about the next who go dark."""
        day.status.change(relay(day.standin.port))
        day.move()

    return Hour(
        name=f"the status service: {name}",
        begin=lambda day: day.status.change(behaviour),
        end=end,
        names="status queries",
    )


# Neighbours that write to it


def slow_senders(how: str) -> Hour:
    held: list[Any] = []

    def begin(day: Day) -> None:
        held.extend(misbehave(day.running.port, how) for _ in range(40))

    return Hour(name=f"HTTP senders: {how}", begin=begin, end=lambda day: held.clear())


def file_moves(day: Day) -> None:
    """The broker goes on writing into the file that it has open."""
    day.written = day.file.with_name("moved")
    day.file.rename(day.written)


def file_is_fifo(day: Day) -> None:
    file_moves(day)
    os.mkfifo(day.file)


def file_is_back(day: Day) -> None:
    day.written.replace(day.file)
    day.written = day.file


# What it stands on


def edited_wrongly(day: Day) -> None:
    assert day.running.process is not None
    (day.running.folder / "rules" / "rules.yaml").write_text("version: 1\nrules: [{name: gone, trigger: offl")
    day.running.process.send_signal(signal.SIGHUP)


def edited_well(day: Day) -> None:
    assert day.running.process is not None
    day.write_rules()
    day.running.process.send_signal(signal.SIGHUP)


def webhook_process(day: Day) -> set[int]:
    found = set()
    for child in children(day.running.pid):
        with open(f"/proc/{child}/cmdline", "rb") as file:
            if b"engine.actions.webhook.process" in file.read():
                found.add(child)
    return found


def webhook_process_killed(day: Day) -> None:
    (before,) = webhook_process(day)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: webhook_process(day), lambda found: found and before not in found)


def room(day: Day, most: int) -> None:
    """A write beyond so many bytes of any file fails."""
    resource.prlimit(day.running.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def clock_is(ahead_ms: int) -> Callable[[Day], None]:
    def begin(day: Day) -> None:
        before = len(day.running.log_lines("clock.stepped"))
        day.clock.set(ahead_ms)
        eventually(lambda: len(day.running.log_lines("clock.stepped")) > before)

    return begin


def killed(day: Day) -> None:
    day.running.kill()


def nothing(day: Day) -> None:
    """It has ended by itself, or stays as it is."""


NO_COMMIT = ".*could not commit|source broker: not caught up"
FILE, LOG, CLOCK = "source broker: ", "(deliveries to )?log\\b", "clock stepped by"

HOURS = (
    bad_receiver("500-endless"),
    bad_status_service("429", after(b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")),
    bad_mail_server("garbage"),
    slow_senders("half_head"),
    bad_receiver("silent"),
    Hour(name="the file is a FIFO", begin=file_is_fifo, end=file_is_back, names=FILE, is_ready=False, spared=None),
    bad_mail_server("data-held"),
    Hour(name="the log's reader is gone", begin=lambda day: day.log.close(), end=lambda day: day.log.read(), names=LOG),
    bad_status_service("endless 100", after(b"HTTP/1.1 100 Continue\r\n\r\n" * 200, forever=True)),
    bad_receiver("103-endless"),
    Hour(name="a rule file is broken", begin=edited_wrongly, end=edited_well),
    bad_mail_server("greets-in-gbk"),
    Hour(name="the disk is full", begin=lambda day: room(day, NO_ROOM_BYTES), end=lambda day: room(day, resource.RLIM_INFINITY), names=NO_COMMIT, is_ready=False, spared=None),
    slow_senders("half_body"),
    bad_receiver("head-dripping"),
    Hour(name="the webhook process is killed", begin=webhook_process_killed, end=nothing, also="webhook process: "),
    Hour(name="the log's reader reads nothing", begin=lambda day: day.log.stop_reading(), end=lambda day: day.log.read(), names=LOG),
    bad_status_service("silent", says_nothing),
    Hour(name="the file is away", begin=file_moves, end=file_is_back, names=FILE, is_ready=False, spared=None),
    bad_receiver("resets"),
    bad_mail_server("greeting-endless"),
    Hour(name="the clock is put ahead", begin=clock_is(STEP_MS), end=nothing, names=CLOCK, leaves=CLOCK),
    Hour(name="the clock is put back", begin=clock_is(0), end=nothing, names=CLOCK, leaves=CLOCK),
    Hour(name="the service is killed", begin=killed, end=Day.start, is_ready=False, spared=None, also="starting: |source "),
)  # fmt: skip
"""Twenty-four. The clock's two come before the kill: a step is shown for ten minutes or until a restart."""

BY_NAME = {hour.name: hour for hour in HOURS}


def readyz(day: Day) -> Readyz:
    """What it says; nothing when nobody answers."""
    status, text = day.running.readiness()
    found: Readyz = json.loads(text) if status else {"ready": False, "reasons": [], "degraded": [], "parts": []}
    return found


def sentences(said: Readyz) -> list[str]:
    """Everything in it that is not as it should be."""
    parts = [f"{part['name']}: {part['reason']}" for part in said["parts"] if not part["working"]]
    return [*said["reasons"], *said["degraded"], *parts]
