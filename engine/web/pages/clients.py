"""The clients: found as you type, or by their status. Read `collect`."""

from __future__ import annotations

import asyncio
import shlex
from typing import Final

from engine.errors import BadQuestion
from engine.web.pages.base import ROWS, Page, Shown, Wanted, link, next_link
from engine.web.parameters import STATUSES
from engine.web.service import Service
from engine.web.views import CLIENT_FLAGS

FILTERS: Final = (("", "", "All"), ("status", "online", "Online"), ("status", "offline", "Offline"), ("status", "unknown", "Unknown"),
                  ("only", "doubtful", "In doubt"), ("only", "on hold", "On hold"), ("only", "flapping", "Flapping"))  # fmt: skip


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows. A word with `=` in the search is a matcher, as in a rule; the others are parts of the id, in their order."""
    status, only = wanted.one_of("status", STATUSES), wanted.one_of("only", CLIENT_FLAGS)
    search = wanted.get("q")
    text, pairs = read_search(search)
    found = await asyncio.to_thread(
        service.views.clients,
        status=status,
        match=pairs,
        text=text,
        only=only,
        limit=ROWS,
        cursor=wanted.get("cursor"),
    )
    choices = [
        {
            "words": words,
            "href": link("clients", q=search, **({name: value} if name else {})),
            "on": _is_on(name, value, status, only),
        }
        for name, value, words in FILTERS
    ]
    return {
        "q": search,
        "filters": choices,
        "clients": found["items"],
        "next": next_link("clients", found, q=search, status=status, only=only),
        "silence": silence_of(text, pairs),
        "status": status,
        "only": only,
    }


def read_search(search: str) -> tuple[str, list[str]]:
    """The part of an id, and the pairs key=pattern, of what was typed."""
    try:
        words = shlex.split(search) if '"' in search or "'" in search else search.split()
    except ValueError as error:
        raise BadQuestion(f"the search {search[:60]!r}: {error}") from error
    pairs = [word for word in words if "=" in word and "@@@" not in word.partition("=")[0]]  # else it is a whole id
    return " ".join(word for word in words if word not in pairs), pairs


def silence_of(text: str, pairs: list[str]) -> str:
    """What the form of a silence needs for the same clients: words in their order are a pattern."""
    pattern = [_quoted(f"client=*{'*'.join(text.split())}*")] if text else []
    return " ".join([*(shlex.quote(pair) for pair in pairs), *pattern])


def _quoted(word: str) -> str:
    """A word as the form of a silence reads it as one."""
    return shlex.quote(word) if any(sign in word for sign in "'\"\\") else word


def _is_on(name: str, value: str, status: str | None, only: str | None) -> bool:
    return (status is None and only is None) if not name else {"status": status, "only": only}[name] == value


PAGE: Final = Page(
    path="/clients",
    template="clients.html",
    collect=collect,
    parameters=("q", "status", "only", "cursor"),
    section="clients",
    words="Clients",
    is_live=False,
)
