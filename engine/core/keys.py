"""What `by` names: the values that put clients together, in throttles, groups and outages.

A name is `client`, `group`, `ip/24` (the network of that prefix length that the client was last seen in) or a column of the
inventory. A key is kept and shown as the mapping of names to values, and compared as its JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.core.addresses import address, network_of
from engine.core.presence.client_state import split_id

PREFIX = "ip/"
"""How a name begins that stands for a network of the address, its prefix length behind it."""


def values_of(by: Sequence[str], client: str, ip: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """The value of each name for one client, "" where it has none; `ip` is `ip:port` as the broker wrote it."""
    found = {}
    for name in by:
        if name == "client":
            found[name] = client
        elif name == "group":
            found[name] = split_id(client)[0]
        elif name.startswith(PREFIX):
            found[name] = network_of(address(ip), name[len(PREFIX) :])
        else:
            found[name] = attributes.get(name, "")
    return found


def key_text(values: Mapping[str, str]) -> str:
    """A key as one text: the same values always have the same one."""
    return json.dumps(dict(values), sort_keys=True, ensure_ascii=False)


def key_values(text: str) -> dict[str, str]:
    """The values of a key, by name; none for the empty text."""
    found: dict[str, Any] = json.loads(text) if text else {}
    return found
