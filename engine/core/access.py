"""Who may do what: roles as a table, and who is asking as a value.

`viewer` reads, `operator` also carries out acts, `admin` also does what cannot be undone and manages users; `source` only posts events.
Read `may`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.errors import Forbidden

VIEWER: Final = "viewer"
OPERATOR: Final = "operator"
ADMIN: Final = "admin"
SOURCE: Final = "source"

PUBLIC: Final = "public"
"""Needed for what anybody may see, such as the page to sign in on."""

ROLES: Final = (VIEWER, OPERATOR, ADMIN, SOURCE)
"""What a token can have; a user has one of the first three."""

USER_ROLES: Final = ROLES[:3]

_ALLOWS: Final[dict[str, tuple[str, ...]]] = {
    PUBLIC: (VIEWER, OPERATOR, ADMIN, SOURCE),
    VIEWER: (VIEWER, OPERATOR, ADMIN),
    OPERATOR: (OPERATOR, ADMIN),
    ADMIN: (ADMIN,),
    SOURCE: (SOURCE, ADMIN),  # an operator who could post events could invent the status of a client
}
"""Needed role -> the roles that are enough."""

# How somebody showed who they are.

USER: Final = "user"  # a local user, with a password
OIDC: Final = "oidc"  # somebody whom the identity provider named
TOKEN: Final = "token"  # a named token of the store
CONFIG: Final = "config"  # the token of the configuration
LOCAL: Final = "local"  # a command on this machine, by who can read the data folder
ANYBODY: Final = "anybody"  # no login is needed
ENGINE: Final = "engine"  # the service itself

PERSONS: Final = (USER, OIDC)
"""Kinds of callers whose name is that of a person."""


def may(role: str, needed: str) -> bool:
    """Is a role enough for what needs `needed`? What nobody knows is never enough."""
    return role in _ALLOWS.get(needed, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for something."""

    name: str  # of the user or the token; "" for anybody
    kind: str  # how they showed it
    role: str
    address: str = ""  # from where; empty: not over the network


EVERYBODY: Final = Caller(name="", kind=ANYBODY, role=ADMIN)
"""Who asks where no login is needed."""


A_PAGE: Final = Caller(name="a page", kind=ENGINE, role=VIEWER)
"""Who asks when a page reads by an act, for all who look at it: each of them may read."""


A_TRIAL: Final = Caller(name="a page", kind=ENGINE, role=OPERATOR)
"""Who asks when a page tries an act that then changes nothing, to show what it would do."""


def shown_caller(caller: Caller) -> str:
    """Who it is, for people: a name, or what they came with."""
    if caller.kind == ANYBODY:
        return "no login"
    if caller.kind in PERSONS:
        return caller.name
    words = {TOKEN: "token ", CONFIG: "token ", LOCAL: "command of "}
    return f"{words.get(caller.kind, '')}{caller.name}"


def check_may(caller: Caller, needed: str | None) -> None:
    """Forbidden when the role of who asks is not enough; None: no role is, because nobody said which."""
    if needed is None:
        raise Forbidden("this address has no role, so it cannot be used; please report it")
    if not may(caller.role, needed):
        raise Forbidden(f"this needs the role {needed}, and {shown_caller(caller)} has the role {caller.role}")
