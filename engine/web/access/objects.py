"""Users, tokens and entries of the audit log as the JSON objects of the HTTP interface. No secret is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.core.times import rfc3339
from engine.stores.base import AuditRow, TokenRow, UserRow
from engine.web.views import number_of, page

Object = dict[str, Any]


def user_object(user: UserRow) -> Object:
    """A local user."""
    return {
        "name": user.name,
        "role": user.role,
        "created_at": rfc3339(user.created_at_ms),
        "password_set_at": rfc3339(user.password_at_ms),
    }


def token_object(token: TokenRow, now_ms: int) -> Object:
    """A token."""
    return {
        "name": token.name,
        "role": token.role,
        "created_at": rfc3339(token.created_at_ms),
        "created_by": token.created_by,
        "expires_at": None if token.expires_at_ms is None else rfc3339(token.expires_at_ms),
        "expired": token.expires_at_ms is not None and token.expires_at_ms <= now_ms,
    }


def audit_object(row: AuditRow) -> Object:
    """An entry of the audit log; `after` is null when the service ended before it could be written."""
    return {
        "id": row.id,
        "at": rfc3339(row.at_ms),
        "who": row.who,
        "kind": row.kind,
        "from": row.address or None,
        "act": row.act,
        "arguments": json.loads(row.arguments),
        "before": None if row.before is None else json.loads(row.before),
        "after": None if row.after is None else json.loads(row.after),
    }


def part(items: Sequence[Object], limit: int, cursor: str | None) -> Object:
    """One page of a list that is in memory; the cursor is an index into it."""
    start = number_of(cursor) or 0
    end = start + limit
    return page(items[start:end], end if end < len(items) else None)
