"""Errors cross the HTTP interface without losing their kind: class -> status and code -> class."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine import errors
from engine.errors import BadQuestion, RollcallError, error_class
from engine.web.problems import STATUS, problem, status_of


def kinds(base: type[RollcallError] = RollcallError) -> Iterator[type[RollcallError]]:
    """All error classes of `engine.errors`."""
    if base.__module__ == errors.__name__:
        yield base
        for kind in base.__subclasses__():
            yield from kinds(kind)


def test_no_two_kinds_of_errors_share_a_code() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", STATUS)
def test_an_error_comes_back_from_its_code(kind: type[RollcallError]) -> None:
    assert error_class(kind.code) is kind
    assert status_of(kind("why")) == STATUS[kind]


@pytest.mark.parametrize(
    ("kind", "status"),
    [(errors.StoreError, 503), (errors.StoreInUse, 503), (errors.ClockSuspect, 503), (errors.CannotListen, 422)],
)
def test_an_error_without_a_status_of_its_own_has_that_of_its_base(kind: type[RollcallError], status: int) -> None:
    assert status_of(kind("why")) == status


@pytest.mark.parametrize("code", [None, 7, "of a later version"])
def test_an_unknown_code_is_an_error_all_the_same(code: object) -> None:
    assert error_class(code) is RollcallError


def test_a_problem_keeps_the_fields_of_the_standard() -> None:
    assert json.loads(bytes(problem(400, "why", BadQuestion.code).body)) == {
        "type": "about:blank",
        "title": "why",
        "status": 400,
        "code": "bad-request",
    }
    assert "code" not in json.loads(bytes(problem(405, "why").body))
