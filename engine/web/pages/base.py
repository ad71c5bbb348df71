"""What a page of the console is: an address, a template, and a function that collects what the template shows. Read `Page`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from engine.errors import BadQuestion
from engine.web.service import Service

Shown = dict[str, Any]

ROWS = 50
"""Rows of a list on one page."""

MAX_VALUE = 2_000
"""Characters of one parameter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: the parts of the path and the parameters, one value each. Equal questions have equal answers."""

    parts: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()

    def part(self, name: str) -> str:
        """A part of the path."""
        return dict(self.parts).get(name, "")

    def get(self, name: str) -> str:
        """A parameter; empty when it is not given."""
        return dict(self.query).get(name, "")

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        """A parameter that is one of several words; None when it is not given. BadQuestion for another word."""
        value = self.get(name)
        if value and value not in choices:
            raise BadQuestion(f"`{name}` must be one of {', '.join(choices)}, not {value[:60]!r}")
        return value or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page. `collect` returns what the template shows; RollcallError when there is no such thing."""

    path: str  # with parts in braces, as in /alert/{id}
    template: str
    collect: Callable[[Service, Wanted], Awaitable[Shown]]
    parameters: tuple[str, ...] = ()  # of the query; others are ignored
    section: str = ""  # of the navigation
    words: str = ""  # in the navigation; empty: it is not there
    is_live: bool = True
    needs_states: bool = True  # of all clients: while they are being loaded, there is nothing to show


def link(page: str, **parameters: object) -> str:
    """The address of a page relative to the root, with the parameters that are not empty."""
    given = {name: str(value) for name, value in parameters.items() if value not in ("", None)}
    return f"{page}?{urlencode(given, quote_via=quote)}" if given else page


def choices(
    page: str, name: str, words: Iterable[tuple[str, str]], chosen: str | None, **others: object
) -> list[Shown]:
    """The values of a parameter to choose from, (value, words), each as a link that keeps the other parameters."""
    return [
        {"words": shown, "href": link(page, **{name: value}, **others), "on": (chosen or "") == value}
        for value, shown in words
    ]


def next_link(page: str, following: Mapping[str, Any], **parameters: object) -> str | None:
    """The address of the next page of a list; None: this is the last one."""
    return link(page, **parameters, cursor=following["next"]) if following["next"] is not None else None
