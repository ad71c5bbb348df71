"""What is typed to find clients, and the silence that the page offers for what was found, mean the same clients."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from engine.web.client_search import ClientSearch, ClientsWanted
from engine.web.pages.clients import read_search, silence_of
from engine.web.silence_form import matchers
from tests.web.test_client_search import Clients


@pytest.mark.parametrize("typed", ["pump 12", "cam", "a@@@ 7", "3 pump", '"it\'s" 1'])
def test_a_silence_covers_what_was_found(typed: str) -> None:
    fleet = Clients(2_000, 1, "abc")
    names = {name.lower(): state for name, state in fleet.states.items()}
    fleet.states, fleet.hidden = names, set()
    text, pairs = read_search(typed)
    found, _ = ClientSearch(fleet, 0).page(ClientsWanted(text=text), 10_000, "", 60.0)  # type: ignore[arg-type]
    (pattern,) = matchers(silence_of(text, pairs))["client"]
    assert {name for name, _ in found} == {name for name in names if fnmatchcase(name, pattern)}
    assert bool(found) == (typed in ("pump 12", "cam", "a@@@ 7"))


def test_a_whole_id_with_a_sign_of_equality_is_an_id() -> None:
    assert read_search("GID_X@@@a=b site=north") == ("GID_X@@@a=b", ["site=north"])
