"""The codes of `core.presence.evidence` in words: in the template variable `evidence`, in explanations and on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.core.presence import evidence
from engine.core.presence.evidence import Doubt, Reading
from engine.core.times import rfc3339

WHY: Final[Mapping[str, str]] = {
    evidence.CLOSED_LATER: "the channel was closed later",
    evidence.SUPERSEDED: "superseded by a newer connect",
    evidence.LIVE: "the channel is live",
    evidence.CLOSES_UNSEEN: "closes a channel whose connect was not seen",
    evidence.CLOSES: "closes its channel",
    evidence.TOO_EARLY: "dated too long before its own connect",
    evidence.GOODBYE: "the client said goodbye",
    evidence.OLD_GOODBYE: "a goodbye of a channel that is not the newest",
    evidence.TWO_ZEROS: "asked twice, there was no connection: closes its channel",
    evidence.ANONYMOUS: "asked, there was a connection that no event had named",
    evidence.FIRST_ZERO: "asked, there was no connection; asked again before it counts",
    evidence.AGREED: "asked, and it was as believed",
}
"""Why an event or an answer was used as it was. Templates print these: a changed sentence changes what rules send."""


def evidence_variable(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """The template variable `evidence`: a mapping for each reading, its time in epoch milliseconds and as people read it."""
    return [
        {
            "type": reading.type,
            "time_ms": reading.time_ms,
            "channel": reading.channel,
            "used": reading.used,
            "why": WHY[reading.why],
            "time": rfc3339(reading.time_ms),
        }
        for reading in readings
    ]


def doubt_text(doubt: Doubt) -> str:
    """Why a belief may be wrong, as a sentence."""
    match doubt.code:
        case evidence.SEVERAL_LIVE:
            return f"{doubt.live} channels are live"
        case evidence.NO_CONNECT:
            return "no connect was ever seen"
        case evidence.NEVER_CLOSED:
            return f"superseded channel {doubt.channel} was never closed"
        case evidence.LIVE_SAID_GOODBYE:
            return f"the only live channel {doubt.channel} said goodbye"
        case evidence.TOO_MANY_CHANNELS:
            return "more channels than are kept"
    raise ValueError(f"no such doubt: {doubt.code}")
