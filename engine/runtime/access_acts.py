"""Acts about users and tokens. They belong to the installation and not to a cell, so any replica carries them out. Read `ACCESS_ACTS`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from engine.config.durations import parse_duration
from engine.core.access import ADMIN, ROLES, USER, USER_ROLES
from engine.errors import BadQuestion, Conflict, NotThere
from engine.runtime.operator_api import Act, Backend, Reach, Route
from engine.stores.access import named
from engine.stores.base import AccessTables, TokenRow, UserRow
from engine.web.access import objects
from engine.web.access.objects import Object
from engine.web.access.tokens import NAME, hash_of, new_token
from engine.web.openapi.operation import Described

MAX_USERS: Final = 10_000
MAX_TOKENS: Final = 10_000
"""All of them are in memory."""

LONGEST_LIFE_MS: Final = 10 * 365 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AddUser:
    """Make a local user with a role (viewer, operator or admin) and a password."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/users", status=201),)
    described: ClassVar[Described] = Described("User", "NewUser", (409,))
    reach: ClassVar[Reach] = Reach.ALL
    name: Any = None
    role: Any = None
    password: Any = None

    def perform(self, backend: Backend) -> Object:
        """The user."""
        name, role = _name(self.name), _role(self.role, USER_ROLES)
        kept, now_ms = _hashed(self.password, name), backend.now_ms()
        user = UserRow(name=name, role=role, password=kept, created_at_ms=now_ms, password_at_ms=now_ms)

        def add(tables: AccessTables) -> None:
            there = {one.name for one in tables.users()}
            if name in there:
                raise Conflict(f"there is a user {name} already: change the role or the password instead")
            if len(there) >= MAX_USERS:
                raise Conflict(f"there are already {MAX_USERS} users, the maximum")
            tables.write_user(user)

        backend.access(add)
        return objects.user_object(user)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPassword:
    """Give a local user another password. All their sessions end."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="PUT", path="/v1/users/{name}/password"),)
    described: ClassVar[Described] = Described("User", "NewPassword", (404,))
    reach: ClassVar[Reach] = Reach.ALL
    name: str
    password: Any = None

    def perform(self, backend: Backend) -> Object:
        """The user."""
        kept, now_ms = _hashed(self.password, self.name), backend.now_ms()

        def change(tables: AccessTables) -> UserRow:
            user = _user(tables, self.name)
            changed = replace(user, password=kept, password_at_ms=max(now_ms, user.password_at_ms + 1))
            tables.write_user(changed)
            tables.remove_sessions_of(self.name, USER)
            return changed

        return objects.user_object(backend.access(change))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRole:
    """Give a local user another role. It counts from their next request on."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="PUT", path="/v1/users/{name}/role"),)
    described: ClassVar[Described] = Described("User", "NewRole", (404,))
    reach: ClassVar[Reach] = Reach.ALL
    name: str
    role: Any = None

    def perform(self, backend: Backend) -> Object:
        """The user."""
        role = _role(self.role, USER_ROLES)

        def change(tables: AccessTables) -> UserRow:
            changed = replace(_user(tables, self.name), role=role)
            tables.write_user(changed)
            return changed

        return objects.user_object(backend.access(change))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveUser:
    """Remove a local user. All their sessions end."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="DELETE", path="/v1/users/{name}"),)
    described: ClassVar[Described] = Described("User", refuses=(404,))
    reach: ClassVar[Reach] = Reach.ALL
    name: str

    def perform(self, backend: Backend) -> Object:
        """The user that there was."""

        def remove(tables: AccessTables) -> UserRow:
            user = _user(tables, self.name)
            tables.remove_user(self.name)
            return user

        return objects.user_object(backend.access(remove))


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToken:
    """Make a token for a program: with a role (viewer, operator, admin or source), and until when it is valid (`expires`, such as 90d)."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/tokens", status=201),)
    described: ClassVar[Described] = Described("MadeToken", "NewToken", (409,))
    reach: ClassVar[Reach] = Reach.ALL
    name: Any = None
    role: Any = None
    expires: Any = None

    def perform(self, backend: Backend) -> Object:
        """The token. This is the only time that `token` can be read."""
        name, role, now_ms = _name(self.name), _role(self.role, ROLES), backend.now_ms()
        life_ms, secret = _life_ms(self.expires), new_token()

        def add(tables: AccessTables) -> TokenRow:
            there = {one.name for one in tables.tokens()}
            if name in there:
                raise Conflict(f"there is a token {name} already: remove it, or choose another name")
            if len(there) >= MAX_TOKENS:
                raise Conflict(f"there are already {MAX_TOKENS} tokens, the maximum")
            token = TokenRow(
                name=name,
                role=role,
                hash=hash_of(secret),
                created_at_ms=now_ms,
                expires_at_ms=None if life_ms is None else now_ms + life_ms,
                created_by=backend.by,
            )
            tables.write_token(token)
            return token

        return objects.token_object(backend.access(add), now_ms) | {"token": secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveToken:
    """Remove a token: it is valid no longer."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="DELETE", path="/v1/tokens/{name}"),)
    described: ClassVar[Described] = Described("Token", refuses=(404,))
    reach: ClassVar[Reach] = Reach.ALL
    name: str

    def perform(self, backend: Backend) -> Object:
        """The token that there was."""

        def remove(tables: AccessTables) -> TokenRow:
            found = named(tables.tokens(), self.name)
            if found is None:
                raise NotThere(f"there is no token {self.name[:60]!r}")
            tables.remove_token(self.name)
            return found

        return objects.token_object(backend.access(remove), backend.now_ms())


def _name(given: Any) -> str:
    if not isinstance(given, str) or NAME.fullmatch(given) is None:
        raise BadQuestion(
            "`name` must be 1 to 64 letters, digits or any of . _ @ + - and must begin with a letter or a digit"
        )
    return given


def _role(given: Any, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise BadQuestion(f"`role` must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    return str(given)


def _hashed(given: Any, name: str) -> str:
    if not isinstance(given, str):
        raise BadQuestion("`password` is missing")
    from engine.web.access.passwords import hashed  # most commands do without, and start sooner

    return hashed(given, name)


def _life_ms(given: Any) -> int | None:
    if given is None:
        return None
    try:
        found = parse_duration(given) if isinstance(given, str) else 0
    except ValueError as error:
        raise BadQuestion(f"`expires`: {error}") from error
    if not 0 < found <= LONGEST_LIFE_MS:
        raise BadQuestion("`expires` must be a duration such as 90d, at most ten years")
    return found


def _user(tables: AccessTables, name: str) -> UserRow:
    found = named(tables.users(), name)
    if found is None:
        raise NotThere(f"there is no user {name[:60]!r}")
    return found


ACCESS_ACTS: Final[tuple[type[Act[Any]], ...]] = (AddUser, SetPassword, SetRole, RemoveUser, AddToken, RemoveToken)
"""Every act about access."""
