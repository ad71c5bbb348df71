"""The plain text that every service starts from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions.receivers import email
from engine.actions.receivers.wording import clean, cut, fitted, footer, identity, units, web_link
from tests.receivers.neighbours import message


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("gpj\u202eexe", r"gpj\u202eexe"),
        ("a\u200bb", r"a\u200bb"),
        ("two\nlines", r"two\nlines"),
        ("half\ud800", r"half\ud800"),
        ("\u26a0\ufe0f warning", "\u26a0\ufe0f warning"),
        ("\U0001f468\u200d\U0001f527", "\U0001f468\u200d\U0001f527"),
        ("a\ufe0f", r"a\ufe0f"),
        ("\U0001f468\u200dx", r"👨\u200dx"),
    ],
)
def test_what_cannot_be_seen_is_made_visible_and_emoji_stay(text: str, seen: str) -> None:
    assert clean(text) == seen


@given(st.text(max_size=40) | st.text("\U0001f389a", max_size=40), st.integers(0, 45))
def test_a_cut_text_keeps_its_limit_and_says_that_it_is_cut(text: str, limit: int) -> None:
    found = cut(text, limit)
    assert units(found) <= limit
    assert found == text or limit == 0 or found.endswith("…")
    assert found != text or units(text) <= limit


@given(st.lists(st.text("ab-\n", min_size=1, max_size=12), max_size=60), st.integers(0, 400), st.integers(0, 200))
def test_what_is_written_fits_whenever_something_does(clients: list[str], room: int, beyond: int) -> None:
    told = message(text="Some are offline.", clients=tuple(clients), count=len(clients) + beyond)
    found = fitted(told, lambda lines: "\n".join(lines), lambda written: len(written) <= room)
    assert len(found) <= max(room, len("… and 260 more"))


def test_an_id_within_a_longer_one_is_not_named() -> None:
    """`p-1` is left out although `p-10` is there: it is counted."""
    told = message(text="Offline:\n- p-10\n- p-100\n- p-1 since yesterday", clients=("p-10", "p-100", "p-1"), count=3)
    found = fitted(told, lambda lines: "\n".join(lines), lambda written: len(written) <= 38)
    assert found == "Offline:\n- p-10\n- p-100\n… and 1 more"


def test_the_first_line_is_cut_when_it_is_alone_too_long() -> None:
    found = fitted(message(text="x" * 100), lambda lines: "\n".join(lines), lambda written: len(written) <= 20)
    assert found.startswith("xxx")
    assert len(found) <= 20


@given(st.text(max_size=300))
def test_different_incidents_have_different_identities(incident: str) -> None:
    found = identity(incident, 255)
    assert 1 <= len(found) <= 255
    assert found.isascii()
    assert found != identity(incident + "x", 255)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://a.example/x?y=1&z=2#w", "https://a.example/x?y=1&z=2#w"),
        ("https://a.example/a%20b", "https://a.example/a%20b"),
        ('https://a.example/)<>"|`*', "https://a.example/%29%3C%3E%22%7C%60%2A"),
        ("https://a.example/ü", "https://a.example/%C3%BC"),
        ("mailto:a@b", ""),
        ("//a.example", ""),
        ("https://", ""),
        ("", ""),
    ],
)
def test_a_link_has_only_characters_that_no_service_gives_a_meaning(written: str, sent: str) -> None:
    assert web_link(written) == sent


def test_an_acknowledgement_says_who() -> None:
    assert "acknowledged by anna" in footer(message(phase="acknowledged", acknowledged_by="anna"))
    assert "reminder, acknowledged by anna" in footer(message(phase="reminder", acknowledged_by="anna"))


def test_e_mails_of_one_incident_are_one_thread() -> None:
    firing, recovery = message(), message(phase="recovery", title="It is online again")
    assert email.thread_id(firing, "a.example") == email.thread_id(recovery, "a.example")
    assert email.thread_id(message(incident="b"), "a.example") != email.thread_id(firing, "a.example")
    assert "Open in Rollcall: https://rollcall.example/" in email.text(firing)
    assert email.subject(recovery) == "It is online again"
