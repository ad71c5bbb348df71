"""The answer to an act that several cells carry out, made of the answers of their owners. Read `joined_answer`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.errors import BadQuestion, Conflict, NotThere, RollcallError, Unavailable, error_class
from engine.runtime.operator_acts import AddSilence, BeginSweep, DiscardHeld, ReleaseHeld, RetryQuarantine
from engine.runtime.operator_api import Act, Reach

NOT_HERE: Final = (NotThere, Conflict, BadQuestion)
"""What a cell says that has nothing to do with the act."""


def answer_of(value: Any) -> str:
    """What an act returned, as JSON."""
    return json.dumps({"value": value})


def refusal_of(error: RollcallError) -> str:
    """What an act raised, as JSON."""
    return json.dumps({"code": error.code, "message": str(error)})


def read_answer(answer: str) -> Any:
    """What the act returned; raises what it raised."""
    found = json.loads(answer)
    if "value" in found:
        return found["value"]
    raise error_class(found["code"])(found["message"])


def is_settled(kind: type[Act[Any]] | None, answers: Sequence[str | None]) -> bool:
    """Can the act be answered already? `answers`: of each cell that was asked, None: not yet. `kind` None: this version has no such act."""
    if (
        kind is not None
        and kind.reach is Reach.ONE
        and any(answer is not None and "value" in json.loads(answer) for answer in answers)
    ):
        return True
    return all(answer is not None for answer in answers)


def joined_answer(kind: type[Act[Any]] | None, answers: Sequence[str]) -> Any:
    """The answer of all cells together; raises what they raised.

    A cell that has nothing to do with the act does not count beside one that has. Unavailable when it was done in some cells only.
    """
    values: list[Any] = []
    errors: list[RollcallError] = []
    for answer in answers:
        try:
            values.append(read_answer(answer))
        except RollcallError as error:
            errors.append(error)
    failed = [error for error in errors if not isinstance(error, NOT_HERE)]
    if failed and values and (kind is None or kind.reach is Reach.ALL):
        raise Unavailable(f"carried out for a part of the clients only: {failed[0]}; repeat it for the others")
    if not values:
        # That something is there but cannot be changed says more than that it is not elsewhere.
        raise next((error for error in [*failed, *errors] if not isinstance(error, NotThere)), errors[0])
    return _JOINED.get(kind, _first)(values) if kind is not None else _first(values)


def _first(values: Sequence[Any]) -> Any:
    return values[0]


def _summed(*keys: str) -> Callable[[Sequence[Any]], Any]:
    return lambda values: values[0] | {key: sum(value[key] for value in values) for key in keys}


def _silence(values: Sequence[Any]) -> Any:
    covers = [value["covers"] for value in values if value["covers"] is not None]
    warnings = [set(value["warnings"]) for value in values]
    return values[0] | {
        "covers": {key: sum(one[key] for one in covers) for key in ("clients", "alerts")} if covers else None,
        "warnings": [text for text in values[0]["warnings"] if all(text in some for some in warnings)],
    }


def _sweeps(values: Sequence[Any]) -> Any:
    """The first sweep, and the numbers of those of the other cells."""
    return values[0] | {"others": [value["id"] for value in values[1:]]}


_JOINED: Final[Mapping[type[Act[Any]], Callable[[Sequence[Any]], Any]]] = {
    AddSilence: _silence,
    ReleaseHeld: _summed("changed"),
    DiscardHeld: _summed("changed"),
    RetryQuarantine: _summed("accepted", "rejected"),
    BeginSweep: _sweeps,
}
