"""Frames in a stream of bytes, as the engine and its child processes speak them: four bytes of length (big endian), then the payload."""

from __future__ import annotations

from typing import Final

LENGTH_BYTES: Final = 4
"""Of the length in front of every payload."""


class Frames:
    """Cuts a stream of bytes into frames, none of them longer than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises ValueError for one that is too long: the stream cannot be read any more."""
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        at, have = 0, len(buffer)
        while have - at >= LENGTH_BYTES:
            begin = at + LENGTH_BYTES
            length = int.from_bytes(buffer[at:begin], "big")
            if length > self._max_bytes:
                raise ValueError(f"a frame of {length} bytes is longer than {self._max_bytes}")
            if have - begin < length:
                break
            at = begin + length
            found.append(bytes(buffer[begin:at]))
        if at:
            del buffer[:at]
        return found


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def payload_bytes(head: bytes) -> int:
    """The length of the payload that follows a head of `LENGTH_BYTES`."""
    return int.from_bytes(head, "big")
