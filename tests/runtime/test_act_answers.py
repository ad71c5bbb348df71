"""An act that several cells carry out has one answer."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import BadQuestion, Conflict, NotThere, RollcallError, Unavailable
from engine.runtime.act_answers import answer_of, is_settled, joined_answer, refusal_of
from engine.runtime.operator_acts import Acknowledge, AddSilence, BeginSweep, ExpireSilence, ReleaseHeld
from engine.runtime.operator_api import Act

DONE = answer_of({"acknowledged": 1})
MISSING = refusal_of(NotThere("there is none"))
ENDED = refusal_of(Conflict("it has ended"))
AWAY = refusal_of(Unavailable("nobody owned the cell"))


def silence(clients: int, *warnings: str) -> str:
    return answer_of({"id": "s", "covers": {"clients": clients, "alerts": 1}, "warnings": list(warnings)})


@pytest.mark.parametrize(
    ("kind", "answers", "found"),
    [
        (Acknowledge, [MISSING, DONE], {"acknowledged": 1}),
        (Acknowledge, [AWAY, DONE], {"acknowledged": 1}),  # the other cell cannot have had it
        (
            ReleaseHeld,
            [answer_of({"rule": "r", "changed": 2}), answer_of({"rule": "r", "changed": 3})],
            {"rule": "r", "changed": 5},
        ),
        (ExpireSilence, [ENDED, answer_of({"id": "s"})], {"id": "s"}),
        (BeginSweep, [answer_of({"id": 7}), answer_of({"id": 8})], {"id": 7, "others": [8]}),
        (
            AddSilence,
            [silence(3, "no client", "both"), silence(4, "both")],
            {"id": "s", "covers": {"clients": 7, "alerts": 2}, "warnings": ["both"]},
        ),
        (None, [answer_of(1)], 1),  # of a version that knows more
    ],
)
def test_what_cells_answer_is_put_together(kind: type[Act[Any]] | None, answers: list[str], found: object) -> None:
    assert is_settled(kind, answers)
    assert joined_answer(kind, answers) == found


@pytest.mark.parametrize(
    ("kind", "answers", "raised"),
    [
        (Acknowledge, [MISSING, MISSING], NotThere),
        (Acknowledge, [MISSING, ENDED], Conflict),  # it is there, which says more
        (Acknowledge, [MISSING, AWAY], Unavailable),  # it may be there
        (AddSilence, [silence(3), AWAY], Unavailable),  # a part is not silenced
        (AddSilence, [refusal_of(BadQuestion("no such key"))] * 2, BadQuestion),
    ],
)
def test_what_cells_refuse_is_put_together(
    kind: type[Act[Any]], answers: list[str], raised: type[RollcallError]
) -> None:
    with pytest.raises(raised):
        joined_answer(kind, answers)


@pytest.mark.parametrize(
    ("kind", "answers", "is_over"),
    [
        (Acknowledge, [None, DONE], True),  # one cell has it: the others need not be waited for
        (Acknowledge, [None, MISSING], False),
        (AddSilence, [None, silence(3)], False),
        (AddSilence, [silence(1), silence(3)], True),
    ],
)
def test_an_act_is_answered_as_soon_as_that_is_possible(
    kind: type[Act[Any]], answers: list[str | None], is_over: bool
) -> None:
    assert is_settled(kind, answers) is is_over
