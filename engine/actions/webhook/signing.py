"""How a webhook proves where it comes from, and how secrets get into a request and never into a log.

The signature is one header, `X-Rollcall-Signature: t=<unix seconds>,v1=<hex>`, where `<hex>` is the HMAC-SHA256 of
`<t>.<body>` under the shared secret. A receiver computes it over the raw body, compares in constant time, and refuses an
old `t`. In a request a secret is a marker, its name between two NUL characters; `reveal` puts the value in its place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from engine.config.scrubber import IN_PATH

SIGNATURE_HEADER = "X-Rollcall-Signature"
MARKER = re.compile("\0([^\0]*)\0")

AFTER_TOJSON: Final = "json:"
"""Before the name of a secret that went through `tojson`."""


class MissingSecret(LookupError):
    """A request names a secret that is not configured; `name` says which."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the secret {name!r} is not configured")


def signature(secret: str, body: bytes, unix_seconds: int) -> str:
    """The value of the signature header for `body` as it goes over the wire."""
    digest = hmac.new(secret.encode(), b"%d.%b" % (unix_seconds, body), hashlib.sha256).hexdigest()
    return f"t={unix_seconds},v1={digest}"


def find(secrets: Mapping[str, str], name: str) -> str:
    """The secret of that name. Raises MissingSecret."""
    if name not in secrets:
        raise MissingSecret(name)
    return secrets[name]


def reveal(text: str, secrets: Mapping[str, str]) -> str:
    """`text` of a header or a body with every marker replaced: as it is, or escaped for JSON after `tojson`. Raises MissingSecret."""
    return MARKER.sub(lambda found: _in_text(secrets, found[1]), text) if "\0" in text else text


def _in_text(secrets: Mapping[str, str], name: str) -> str:
    plain = name.removeprefix(AFTER_TOJSON)
    found = find(secrets, plain)
    return found if plain == name else json.dumps(found)[1:-1]


def reveal_inside(value: Any, secrets: Mapping[str, str]) -> Any:
    """A JSON value with every marker in its texts replaced. Raises MissingSecret."""
    if isinstance(value, str):
        return reveal(value, secrets)
    if isinstance(value, Mapping):
        return {key: reveal_inside(inner, secrets) for key, inner in value.items()}
    return [reveal_inside(inner, secrets) for inner in value] if isinstance(value, (list, tuple)) else value


def reveal_in_url(url: str, secrets: Mapping[str, str]) -> str:
    """`url` with every marker replaced, percent-encoded for where it stands: path or query. Raises MissingSecret."""
    if "\0" not in url:
        return url
    path, mark, query = url.partition("?")
    path = MARKER.sub(lambda found: quote(find(secrets, found[1]), safe=IN_PATH), path)
    return path + mark + MARKER.sub(lambda found: quote(find(secrets, found[1]), safe=""), query)
