"""What can be no client's id is answered with one short sentence that says why."""

from __future__ import annotations

import pytest

from engine.core.client_ids import impossible_id, shown_name


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ("", "the client id is empty"),
        ("x" * 50_000, "the id has 50000 bytes, and at most 256 are possible"),
        ("€" * 86, "the id has 258 bytes"),
        ("a\x01b", r"'a\x01b': an id has no control characters"),
        ("a\nb", "control characters"),
        ("a\x9bb", "control characters"),
    ],
)
def test_an_impossible_id_is_refused_in_a_short_sentence(client: str, words: str) -> None:
    said = impossible_id(client)
    assert said is not None and words in said and len(said) < 250 and said.isprintable()


@pytest.mark.parametrize("client", [".", "..", " ", "G@@@a/b", "x" * 256, "€" * 85, "\u202e", "\ud800"])
def test_what_an_event_may_carry_is_possible(client: str) -> None:
    assert impossible_id(client) is None
    assert shown_name(client).isprintable() and len(shown_name(client)) < 900
