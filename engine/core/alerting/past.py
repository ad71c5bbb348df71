"""What is kept of the past of a client, for roll calls that look back; `lookback` records it."""

from __future__ import annotations

from typing import Final

HEAD: Final = ""
"""The record that says what the others mean; no client has an empty id."""


class PastRecord:
    """What happened to one client, by part of the time. A store keeps both fields; one without parts needs no row.

    The record of `HEAD` has one part, its number the length of all parts in milliseconds: [when recording began, where part 0 begins].
    """

    __slots__ = ("client", "parts")

    def __init__(self, client: str, parts: dict[int, list[int]]) -> None:
        self.client = client
        self.parts = parts  # number of the part -> [flaps, milliseconds offline]
