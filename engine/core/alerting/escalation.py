"""Escalation: who else is told of what nobody has acknowledged, and which steps of a rule were taken already. Values only.

| what happens                                            | what comes of it                                                   |
|---------------------------------------------------------|--------------------------------------------------------------------|
| a firing is sent                                        | its ladder begins: a step is due `after` later                     |
| a step is due, and something fires unacknowledged       | the actions of the step leave; the next one is due                 |
| it is due while all of that is silenced, muted, inhibited | it waits for the end of that                                     |
| all that fires is acknowledged, or nothing fires        | the ladder stops                                                   |
| a group whose ladder has stopped lists somebody else    | its ladder begins anew, from that delivery                         |
| it is resolved                                          | the `on_recovery` of every step that was sent leaves, in their order |

A rule can be edited between two steps. A step that was sent is found again among those of the rule as it is now: by its actions and
its `after`; else by its actions; else by its `after`. One that is found nowhere was removed, and says nothing any more. What
lies before the last step that was sent is not made up for. Read `Escalation`, then `next_step`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from engine.core.rules import EscalationStep


class SentStep:
    """A step that was sent; nothing of it changes."""

    __slots__ = ("actions", "after_ms", "at_ms", "ladder")

    def __init__(self, actions: str, after_ms: int, at_ms: int, ladder: int) -> None:
        self.actions = actions  # see `digest`
        self.after_ms = after_ms  # as the rule had it then
        self.at_ms = at_ms
        self.ladder = ladder  # the ladder that it was a step of, counted from 1

    def mark(self, id: str) -> str:
        """What keys of its deliveries are made of; `id`: that of the notification. A ladder takes each step once."""
        return f"{id}\0{self.ladder}\0{self.after_ms}"


class Escalation:
    """The ladder of one notification, from its firing to its recovery. A store keeps the arguments of `__init__`."""

    __slots__ = (
        "due_at_ms",
        "freed_ms",
        "from_ms",
        "id",
        "is_held",
        "is_over",
        "is_stopped",
        "ladder",
        "reached_ms",
        "rule",
        "sent",
    )

    def __init__(
        self,
        id: str,
        rule: str,
        from_ms: int,
        ladder: int = 1,
        reached_ms: int = 0,
        is_stopped: bool = False,
        is_held: bool = False,
        freed_ms: int | None = None,
        sent: Iterable[SentStep] = (),
    ) -> None:
        self.id = id  # of the notification
        self.rule = rule
        self.from_ms = from_ms  # what `after` counts from
        self.ladder = ladder  # how often it began
        self.reached_ms = reached_ms  # the `after` of the last step that this ladder took
        self.is_stopped = is_stopped  # nothing fires unacknowledged
        self.is_held = is_held  # the next step was due, and waits for the end of a silence or the like
        self.sent = list(sent)  # each step once, in the order in which they were sent first
        self.freed_ms = freed_ms  # when what it waited for ended; None: it does not go on from there
        self.due_at_ms: int | None = None  # when the next step is due; None: none is, or it waits
        self.is_over = False

    def begin_again(self, at_ms: int) -> None:
        """What was acknowledged is not all any more: steps count from here, all of them."""
        self.from_ms, self.ladder, self.reached_ms = at_ms, self.ladder + 1, 0
        self.is_stopped = False

    def took(self, steps: Sequence[EscalationStep], index: int, at_ms: int) -> None:
        """The step leaves now."""
        places = places_of(steps, self.sent)
        after_ms = steps[index].after_ms
        step = SentStep(digest(steps[index]), after_ms, at_ms, self.ladder)
        if index in places:
            self.sent[places.index(index)] = step
        else:
            self.sent.append(step)
        self.reached_ms = max(self.reached_ms, after_ms)


def digest(step: EscalationStep) -> str:
    """A short text that is the same for the same actions."""
    text = json.dumps([[action.kind, action.spec] for action in step.actions], sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def places_of(steps: Sequence[EscalationStep], sent: Sequence[SentStep]) -> list[int | None]:
    """Which of a rule's steps each one that was sent is now; None for one that the rule does not have any more."""
    found: list[int | None] = [None] * len(sent)
    if not sent:
        return found
    digests = [digest(step) for step in steps]
    left = set(range(len(steps)))
    for by_actions, by_after in ((True, True), (True, False), (False, True)):
        for place, one in enumerate(sent):
            if found[place] is not None:
                continue
            for index in sorted(left):
                same_actions = digests[index] == one.actions or not by_actions
                if same_actions and (steps[index].after_ms == one.after_ms or not by_after):
                    found[place] = index
                    left.discard(index)
                    break
    return found


def next_step(steps: Sequence[EscalationStep], escalation: Escalation) -> int | None:
    """The place of the step that comes next; None: all were taken."""
    taken = set()
    if escalation.sent:
        for index, one in zip(places_of(steps, escalation.sent), escalation.sent, strict=True):
            if one.ladder == escalation.ladder:
                taken.add(index)
    for index, step in enumerate(steps):
        if index not in taken and step.after_ms > escalation.reached_ms:
            return index
    return None


def sent_steps(steps: Sequence[EscalationStep], escalation: Escalation) -> list[tuple[int, SentStep]]:
    """The steps that were sent and that the rule still has, by their places in it, in the order in which they were sent first."""
    places = places_of(steps, escalation.sent)
    return [(index, one) for index, one in zip(places, escalation.sent, strict=True) if index is not None]


def latest(steps: Sequence[EscalationStep], escalation: Escalation) -> tuple[int, SentStep]:
    """The step that was sent last, with its place in the rule."""
    return max(sent_steps(steps, escalation), key=_taken)


def number_of_latest(steps: Sequence[EscalationStep], escalation: Escalation) -> int:
    """The number of the step that was sent last, as people count: the first is 1."""
    return latest(steps, escalation)[0] + 1


def _taken(step: tuple[int, SentStep]) -> tuple[int, int]:
    return step[1].ladder, step[1].after_ms
