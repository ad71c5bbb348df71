"""Acts of operators that come to a replica which does not own the cell: it writes them down, the owner carries them out and answers.

`ActSender` is the side of the replica that was asked, `ActRunner` that of the owner. An act is taken in the transaction of its first
effect, so it has that once, whoever owns the cell then. Read `ActRunner.run_one`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final, Protocol, TypeVar

from engine.core.access import Caller
from engine.errors import NotThere, RollcallError, StoreError, Unavailable
from engine.runtime.act_answers import answer_of, is_settled, joined_answer, refusal_of
from engine.runtime.audit import carry_out
from engine.runtime.first_effect import FirstEffect
from engine.runtime.operator_acts import ACTS
from engine.runtime.operator_api import Act, Backend
from engine.sources.base import Batch
from engine.stores.posted import ActStanding, PostedAct
from engine.telemetry import Event, logger
from engine.web.service import PendingAct

T = TypeVar("T")

LOOK_S: Final = 0.5
"""How long both sides wait for the bell before they look by themselves."""

RETRY_S: Final = 1.0
"""Pause after the database could not be asked, or an act could not be committed."""

ANSWER_WITHIN_S: Final = 15.0
"""How long an operator's request waits for the answer; then it is told where to find it."""

ANSWER_LOST_S: Final = 60.0
"""An act that was carried out so long ago and has no answer gets none: its replica ended in between."""

LIFE_S: Final = 600.0
"""An act that waited for longer is not carried out: its operator has turned to something else."""

PURGE_S: Final = 3_600.0
"""How long an answer can be asked for."""

LOST: Final = (
    "the database has lost it, as in a failover to a standby that lagged: look what was done before you repeat it"
)

ACTS_AT_ONCE: Final = 20

CALLER: Final = "caller of the act"
"""Among the arguments: who asked for it. No act has an argument of this name."""

log = logger(__name__)


class ActMail(Protocol):
    """The acts of a cell as one thread uses them; see `stores.postgres.inbox.PostgresInbox`. StoreError when that fails."""

    def ask(self, name: str, arguments: str, cells: Sequence[int] = ()) -> int:
        """Write an act for these cells (none: for the own one); its number."""
        ...

    def acts(self, limit: int) -> list[PostedAct]:
        """Acts that wait."""
        ...

    def act(self, number: int, cells: Sequence[int] = ()) -> list[ActStanding]:
        """What became of an act in each of these cells that it was for."""
        ...

    def answer(self, number: int, answer: str) -> None:
        """Write what it is answered with."""
        ...

    def purge(self, older_s: float) -> None:
        """Drop old ones."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


# As text


def arguments_of(act: Act[Any], by: Caller) -> str:
    """The arguments of an act as JSON, and who asked for it."""
    given = {one.name: getattr(act, one.name) for one in fields(act)}  # type: ignore[arg-type]
    return json.dumps(given | {CALLER: [by.name, by.kind, by.role, by.address]})


def kind_of(name: str) -> type[Act[Any]] | None:
    """The act of this name; None: this version has none."""
    return next((one for one in ACTS if one.__name__ == name), None)


def act_of(name: str, arguments: str) -> tuple[Act[Any], Caller]:
    """The act that was written down, and who asked for it. RollcallError when this version has no such act."""
    kind = kind_of(name)
    try:
        if kind is not None:
            given = json.loads(arguments)
            who, how, role, address = given.pop(CALLER)
            return kind(**given), Caller(name=who, kind=how, role=role, address=address)
    except (TypeError, ValueError, KeyError):
        pass
    raise RollcallError(f"the replica that owns the cell does not know this request ({name}): upgrade it")


# The replica that was asked


class ActSender:
    """Writes acts down and waits for their answers; on the event loop. `ring` it when an answer was written."""

    def __init__(
        self, mail: Callable[[], ActMail], cells: Sequence[int] = (), within_s: float = ANSWER_WITHIN_S
    ) -> None:
        """`mail`: opens the acts of the cells; `cells`: the numbers of all cells, where there are several."""
        self._thread = ThreadPoolExecutor(1, "act-sender")  # one thread: the connection belongs to it
        self._mail, self._cells, self._within_s = mail(), cells, within_s
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """An answer was written, perhaps; on the event loop."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def ask(self, act: Act[T], by: Caller, cells: Sequence[int] = ()) -> T | PendingAct:
        """Have the owners of cells carry out an act: what it returned, or where its answer will be. Raises what it raised.

        StoreError: it could not be written, and is not carried out. Once it is written, a database that cannot be asked is waited for.
        """
        kind = type(act)
        number = await self._call(self._mail.ask, kind.__name__, arguments_of(act, by), cells)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._within_s):
                while True:
                    rung = self._rung
                    with suppress(StoreError):
                        standings = await self._call(self._mail.act, number, cells)
                        if not standings:
                            raise Unavailable(LOST)
                        answers = [one.answer for one in standings]
                        if is_settled(kind, answers):
                            return joined_answer(kind, _written(answers))  # type: ignore[no-any-return]
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await rung.wait()
        return PendingAct(number)

    async def answer(self, number: int) -> Any:
        """The answer of an act that was asked before; PendingAct: there is none yet. Raises what it raised; NotThere."""
        standings = await self._call(self._mail.act, number, self._cells)
        if not standings:
            raise NotThere(f"there is no request {number}: it was answered long ago, or a failover lost it")
        kind = kind_of(standings[0].name)
        answers = [one.answer for one in standings]
        if is_settled(kind, answers):
            return joined_answer(kind, _written(answers))
        if any(one.answer is None and one.taken_s is not None and one.taken_s > ANSWER_LOST_S for one in standings):
            raise Unavailable(
                "it was carried out, but the replica ended before it wrote the answer; look before you repeat it"
            )
        return PendingAct(number)

    def close(self) -> None:
        """Give the connection up."""
        self._thread.submit(self._mail.close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _written(answers: Sequence[str | None]) -> list[str]:
    return [answer for answer in answers if answer is not None]


# The owner


class ActRunner:
    """Carries out the acts that wait, one after another, until cancelled. `ring` it when one was written."""

    def __init__(
        self, mail: Callable[[], ActMail], take: Callable[[int], bool], backend: Callable[[], Backend]
    ) -> None:
        """`mail`: opens the acts of the cell; `take`: inside the owner's transaction, an act has its effect; False: it had it already."""
        self._open, self._take, self._backend = mail, take, backend
        self._rung: asyncio.Event | None = None

    def ring(self) -> None:
        """An act was written, perhaps; on the event loop."""
        if self._rung is not None:
            self._rung.set()

    async def run(self) -> None:
        """Look for acts and carry them out."""
        loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        mail, backend = self._open(), self._backend()
        thread = ThreadPoolExecutor(1, "acts")
        purged_s = loop.time()
        try:
            while True:
                self._rung.clear()
                try:
                    if not await loop.run_in_executor(thread, self._run_some, mail, backend):
                        with suppress(TimeoutError):
                            async with asyncio.timeout(LOOK_S):
                                await self._rung.wait()
                    if loop.time() - purged_s > PURGE_S:
                        purged_s = loop.time()
                        await loop.run_in_executor(thread, mail.purge, PURGE_S)
                except StoreError:
                    await asyncio.sleep(RETRY_S)
        finally:
            thread.submit(mail.close)
            thread.shutdown(wait=False)

    def _run_some(self, mail: ActMail, backend: Backend) -> int:
        """In the thread: carry out what waits; how many. StoreError when one could not be committed: it waits on."""
        acts = mail.acts(ACTS_AT_ONCE)
        for act in acts:
            self.run_one(mail, backend, act)
        return len(acts)

    def run_one(self, mail: ActMail, backend: Backend, posted: PostedAct) -> None:
        """Carry out one act and write its answer. StoreError when it could not be committed: it waits on."""
        taking = TakingBackend(backend, lambda: self._take(posted.id), posted.asked_ms)
        try:
            if posted.age_s > LIFE_S:
                raise Unavailable(
                    f"no replica owned the cell for {LIFE_S / 60:.0f} minutes: nothing was done; repeat it"
                )
            act, by = act_of(posted.name, posted.arguments)
            answer = answer_of(carry_out(act, taking, by))
        except AlreadyTaken:
            return  # an owner before carried it out
        except StoreError as error:
            if not taking.has_begun:
                raise
            answer = refusal_of(error)
        except RollcallError as error:
            if isinstance(error, Unavailable) and not taking.has_begun and posted.age_s <= LIFE_S:
                raise StoreError(str(error)) from error  # the writer is busy: it may still be taken, by that very work
            answer = refusal_of(error)
        except Exception as error:  # its operator must be answered, and the others carried out
            log.error(Event.INTERNAL_ERROR, part="acts", exc_info=error)
            answer = refusal_of(RollcallError(f"internal error: {type(error).__name__}"))
        mail.answer(posted.id, answer)


class AlreadyTaken(RollcallError):
    """The act had its effect before."""


class TakingBackend(FirstEffect):
    """A backend on which the first transaction of an act also takes it."""

    def __init__(self, backend: Backend, take: Callable[[], bool], asked_ms: int) -> None:
        super().__init__(backend)
        self._take, self._asked_ms = take, asked_ms

    def _along(self) -> None:
        if not self._take():
            raise AlreadyTaken

    def asked_ms(self) -> int:
        """See `Backend`."""
        return self._asked_ms

    def offer(self, batch: Batch) -> None:
        """See `Backend`. The batch itself is the first effect."""
        if not self.has_begun:
            batch.along = self._take_or_fail
        self._backend.offer(batch)
        self.has_begun = True

    def _take_or_fail(self) -> None:
        if not self._take():
            raise StoreError("the request has been carried out already")
