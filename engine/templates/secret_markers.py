"""Secrets in templates: `{{ secrets.pager }}` leaves a marker that the sender replaces, so no stored request has a secret in it.

A marker is the secret's name between two NULs, which no value that a device controls can contain. After `tojson` the name has `json:`
before it: the secret is then escaped for a text of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MARKER = re.compile("\0([^\0]{1,128})\0")
_IN_JSON = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000([A-Za-z_][A-Za-z0-9_]{0,63})\\u0000")
"""A marker as `tojson` writes it; a backslash that a device sends is written twice."""


class SecretNames:
    """`secrets` in templates: each attribute is a marker."""

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"\0{name}\0"

    __getitem__ = __getattr__


SECRETS = SecretNames()


def is_marker(text: str) -> bool:
    """Whether a text is the marker of one secret and nothing else."""
    return text.startswith("\0") and _MARKER.fullmatch(text) is not None


def after_tojson(text: str) -> str:
    """What `tojson` made of a text, with the markers in it as markers again."""
    return _IN_JSON.sub("\\1\0json:\\2\0", text) if "\\u0000" in text else text


def conceal(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as people may see it: `***` in place of each secret. A stored request may be damaged, and is shown all the same."""
    shown = dict(request)
    if "url" in shown:
        shown["url"] = _concealed(shown["url"])
        headers = shown.get("headers", {})
        is_mapping = isinstance(headers, Mapping)
        shown["headers"] = {name: _concealed(value) for name, value in headers.items()} if is_mapping else headers
        for part in ("json", "body"):
            if part in shown:
                shown[part] = _concealed_inside(shown[part])
    return shown


def _concealed_inside(value: Any) -> Any:
    if isinstance(value, str):
        return _MARKER.sub("***", value) if "\0" in value else value
    if isinstance(value, dict):
        return {key: _concealed_inside(inner) for key, inner in value.items()}
    return [_concealed_inside(inner) for inner in value] if isinstance(value, list) else value


def _concealed(value: Any) -> Any:
    return _MARKER.sub("***", value) if isinstance(value, str) else value
