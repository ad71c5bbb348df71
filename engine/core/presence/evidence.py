"""What the belief about a client rests on, and why it may be wrong: as codes and values, put into words elsewhere.

Read `readings` for the grounds of a status, `doubts` for reasons to query the client. A doubt is a hint, never a verdict.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN
from engine.core.presence.client_state import MAX_CHANNELS, NEVER, NOT_ASKED, Answered, Channel, ClientState
from engine.core.presence.resolver import is_closed, live_count, newest_connect

ANSWER: Final = "answer"
"""The type that the answer of a query has among events, where people see both."""

# Why an event or an answer was used as it was: the values of `Reading.why`.
CLOSED_LATER: Final = "closed_later"
SUPERSEDED: Final = "superseded"
LIVE: Final = "live"
CLOSES_UNSEEN: Final = "closes_unseen"
CLOSES: Final = "closes"
TOO_EARLY: Final = "too_early"
GOODBYE: Final = "goodbye"
OLD_GOODBYE: Final = "old_goodbye"
TWO_ZEROS: Final = "two_zeros"
ANONYMOUS: Final = "anonymous"
FIRST_ZERO: Final = "first_zero"
AGREED: Final = "agreed"
REASONS: Final = (
    CLOSED_LATER, SUPERSEDED, LIVE, CLOSES_UNSEEN, CLOSES, TOO_EARLY, GOODBYE, OLD_GOODBYE, TWO_ZEROS, ANONYMOUS, FIRST_ZERO,
    AGREED,
)  # fmt: skip

# Why a belief may be wrong: the values of `Doubt.code`.
SEVERAL_LIVE: Final = "several_live"
NO_CONNECT: Final = "no_connect"
NEVER_CLOSED: Final = "never_closed"
LIVE_SAID_GOODBYE: Final = "live_said_goodbye"
TOO_MANY_CHANNELS: Final = "too_many_channels"
DOUBTS: Final = (SEVERAL_LIVE, NO_CONNECT, NEVER_CLOSED, LIVE_SAID_GOODBYE, TOO_MANY_CHANNELS)


class Reading(NamedTuple):
    """How one event that is kept, or one answer, was read. `time_ms`: the broker's time of an event, when an answer was asked for."""

    type: str  # connect, disconnect, tcpclean or answer
    time_ms: int
    channel: str  # "" of an answer about no channel in particular
    used: bool  # does the status rest on it?
    why: str  # one of REASONS


class Doubt(NamedTuple):
    """One reason why the belief may be wrong."""

    code: str  # one of DOUBTS
    channel: str = ""  # the channel that it is about
    live: int = 0  # how many channels are live


def doubts(state: ClientState, skew_ms: int) -> list[Doubt]:
    """Why the belief about this client may be wrong; empty when there is no reason."""
    found = []
    channels = state.channels
    live = live_count(channels, skew_ms)
    newest = newest_connect(channels)
    if live > 1:
        found.append(Doubt(SEVERAL_LIVE, live=live))
    if newest == NEVER:
        found.append(Doubt(NO_CONNECT))
    for channel in channels:
        if channel.connect_ms == NEVER or is_closed(channel, skew_ms):
            continue
        if channel.connect_ms < newest - skew_ms:
            found.append(Doubt(NEVER_CLOSED, channel.id))
        elif live == 1 and channel.goodbye_ms != NEVER:
            found.append(Doubt(LIVE_SAID_GOODBYE, channel.id))
    if len(channels) >= MAX_CHANNELS:
        found.append(Doubt(TOO_MANY_CHANNELS))
    return found


def is_doubtful(state: ClientState, skew_ms: int) -> bool:
    """Is there a reason for doubt? Cheap for the histories that make up almost all of a fleet."""
    channels = state.channels
    if len(channels) == 1 and channels[0].connect_ms != NEVER:
        return channels[0].goodbye_ms != NEVER and not is_closed(channels[0], skew_ms)
    return bool(doubts(state, skew_ms))


def readings(state: ClientState, skew_ms: int) -> list[Reading]:
    """What the status rests on: one entry an event kept and an answer that counts, oldest first."""
    newest = newest_connect(state.channels)
    answered = state.answered or NOT_ASKED
    voided_ms = answered.void_ms + skew_ms if answered.void_ms != NEVER else NEVER
    found = _of_answers(answered)
    for channel in state.channels:
        for reading in _of_channel(channel, newest, skew_ms):
            if reading.type == TCPCLEAN and reading.time_ms == voided_ms:
                found.append(Reading(ANSWER, reading.time_ms, channel.id, reading.used, TWO_ZEROS))
            else:
                found.append(reading)
    return sorted(found, key=_dated)


def _dated(reading: Reading) -> tuple[int, str]:
    return reading.time_ms, reading.type


def _of_answers(answered: Answered) -> list[Reading]:
    """The answers that the status rests on."""
    found = []
    if answered.anonymous_ms != NEVER:
        found.append(Reading(ANSWER, answered.anonymous_ms, "", True, ANONYMOUS))
    if answered.zero_ms != NEVER:
        found.append(Reading(ANSWER, answered.zero_ms, "", True, FIRST_ZERO))
    if answered.verified_ms not in (NEVER, answered.anonymous_ms, answered.zero_ms):
        found.append(Reading(ANSWER, answered.verified_ms, "", True, AGREED))
    return found


def _of_channel(channel: Channel, newest: int, skew_ms: int) -> list[Reading]:
    """How each event about one channel was read."""
    found = []
    connect, close = channel.connect_ms, channel.close_ms
    if connect != NEVER:
        if is_closed(channel, skew_ms):
            found.append(Reading(CONNECT, connect, channel.id, True, CLOSED_LATER))
        elif connect < newest - skew_ms:
            found.append(Reading(CONNECT, connect, channel.id, False, SUPERSEDED))
        else:
            found.append(Reading(CONNECT, connect, channel.id, True, LIVE))
    if close != NEVER:
        if connect == NEVER:
            found.append(Reading(TCPCLEAN, close, channel.id, True, CLOSES_UNSEEN))
        elif is_closed(channel, skew_ms):
            found.append(Reading(TCPCLEAN, close, channel.id, True, CLOSES))
        else:
            found.append(Reading(TCPCLEAN, close, channel.id, False, TOO_EARLY))
    if channel.goodbye_ms != NEVER:
        is_newest = connect in (NEVER, newest)
        found.append(
            Reading(DISCONNECT, channel.goodbye_ms, channel.id, is_newest, GOODBYE if is_newest else OLD_GOODBYE)
        )
    return found
