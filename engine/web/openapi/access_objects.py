"""The JSON objects about users, tokens and the audit log, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from engine.web.openapi.values import Duration, Instant, Next

UserRole = Literal["viewer", "operator", "admin"]
TokenRole = Literal["viewer", "operator", "admin", "source"]

AccessName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]

Password = Annotated[
    str,
    Meta(
        min_length=12,
        max_length=1024,
        description="At least 12 characters and at most 1,024 bytes; not the name, no control characters, not one character repeated.",
        extra_json_schema={"format": "password"},
    ),
]


class MeObject(TypedDict):
    """Who asks. `login`: is a login or a token needed here? `csrf`: what a browser with a session sends with every change."""

    name: str | None
    kind: Literal["user", "oidc", "token", "config", "local", "anybody"] | None
    role: TokenRole | None
    login: bool
    csrf: NotRequired[str]


class UserObject(TypedDict):
    """A local user."""

    name: str
    role: UserRole
    created_at: Instant
    password_set_at: Instant


class UserPageObject(TypedDict):
    """Local users, by name."""

    items: list[UserObject]
    next: Next


class NewUserObject(TypedDict):
    """A user to make."""

    name: AccessName
    role: UserRole
    password: Password


class NewRoleObject(TypedDict):
    """The role that a user shall have."""

    role: UserRole


class NewPasswordObject(TypedDict):
    """The password that a user shall have."""

    password: Password


class TokenObject(TypedDict):
    """A token for programs. What it is cannot be read."""

    name: str
    role: TokenRole
    created_at: Instant
    created_by: str
    expires_at: Annotated[Instant | None, Meta(description="null: it is valid until it is removed.")]
    expired: bool


class TokenPageObject(TypedDict):
    """Tokens, by name."""

    items: list[TokenObject]
    next: Next


class NewTokenObject(TypedDict):
    """A token to make."""

    name: AccessName
    role: TokenRole
    expires: NotRequired[Duration]


class MadeTokenObject(TokenObject):
    """A token that was made. This is the only answer with the token itself."""

    token: str


Audited = TypedDict(
    "Audited",
    {
        "id": int,
        "at": Instant,
        "who": str,
        "kind": str,
        "from": Annotated[str | None, Meta(description="The address; null: not over the network.")],
        "act": str,
        "arguments": dict[str, Any],
        "before": Annotated[Any, Meta(description="What it was about, before; null: nothing to say.")],
        "after": Annotated[
            Any, Meta(description="What it was answered with; null: the service ended before that was written.")
        ],
    },
)
Audited.__doc__ = "An entry of the audit log. Passwords and tokens are `***`."


class AuditPageObject(TypedDict):
    """The audit log, newest first."""

    items: list[Audited]
    next: Next
