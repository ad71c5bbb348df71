"""Every code that the core gives for evidence and doubts has its sentence, and no sentence stands for nothing."""

from __future__ import annotations

import pytest

from engine.core.presence.evidence import DOUBTS, REASONS, Doubt
from engine.templates.evidence_text import WHY, doubt_text


def test_every_reason_of_the_core_has_a_sentence() -> None:
    assert set(WHY) == set(REASONS)


@pytest.mark.parametrize("code", DOUBTS)
def test_every_doubt_of_the_core_has_a_sentence(code: str) -> None:
    assert doubt_text(Doubt(code, "c1", 2))


def test_a_doubt_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such doubt"):
        doubt_text(Doubt("unheard of"))
