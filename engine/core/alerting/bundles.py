"""Bundles: what one ending let fire together is one thing, from its firing to its recovery.

The end of a silence, a mute window, an inhibitor, an outage, flapping or a full throttle may let several alerts of one rule fire in
one instant. Without `grouping` they are a bundle: a `Group` of its own, which nobody joins later.

| what happens                                | what leaves                                                                  |
|---------------------------------------------|------------------------------------------------------------------------------|
| they fire                                   | at once one firing with the list                                             |
| some of them are back                       | one update with who is left, `interval` after the last, at once when that is past |
| the last of them is back                    | one recovery at the same pace, and the bundle is closed                      |
| one that was back falls again               | an alert of its own                                                          |

All of it carries one id. Who is in a bundle is told by `Alert.subject`, because alerts about sources and outages can be in one. Here
is what its notifications say of these; when they leave is in `grouping`, what is sent in `group_notifications`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from engine.core.alerting.alert import Alert
from engine.core.keys import key_values

COUNTS: Final = ("count", "total", "back")
"""What `alert` says of an outage in numbers: how many are down, ever joined, and are back."""


def clients_in(subjects: Iterable[str], keyed: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The clients among what alerts are filed under, and those of alerts about keys; `keyed`: what `alert` says of each of these."""
    found = [subject for subject in subjects if not subject.startswith("\0")]
    for shown in keyed:
        found += shown["clients"]
    return found


def sources_in(subjects: Iterable[str]) -> list[str]:
    """The sources among them."""
    return [subject[1:] for subject in subjects if subject.startswith("\0") and "\0" not in subject[1:]]


def key_of(key: str, subjects: Iterable[str]) -> dict[str, str]:
    """What a bundle is about, by name: its own key, or the values of the keys in it, `north, south` where they differ."""
    found = key_values(key)
    for subject in subjects:
        _, _, text = subject[1:].partition("\0")
        if not subject.startswith("\0") or not text:
            continue
        for name, value in key_values(text).items():
            before = found.get(name)
            if before is None:
                found[name] = value
            elif value not in before.split(", "):
                found[name] = f"{before}, {value}"
    return found


def about_sources(subjects: Iterable[str], alerts: Sequence[Alert]) -> dict[str, Any]:
    """What `alert` says of the sources in a bundle; nothing when there is none. `alerts`: those that fire."""
    sources = sources_in(subjects)
    if not sources:
        return {}
    details = [alert.detail for alert in alerts if alert.source is not None]
    return {"source": ", ".join(sources), "detail": "; ".join(details)}


def counted(keyed: Iterable[Mapping[str, Any]], before: Sequence[int] = ()) -> list[int]:
    """The `COUNTS` of alerts about keys, each added up, on top of those `before`; an alert without one adds nothing."""
    found = list(before) or [0] * len(COUNTS)
    for shown in keyed:
        found = [sum_ + shown.get(name, 0) for sum_, name in zip(found, COUNTS, strict=True)]
    return found


def about_keys(keyed: Sequence[Mapping[str, Any]], ended: Sequence[int]) -> dict[str, Any]:
    """What `alert` says of the keys in a bundle, in numbers: of the alerts that fire, and of those that `ended`. Nothing without any."""
    if not keyed and not ended:
        return {}
    count, total, back = counted(keyed, ended)
    return {"count": count, "total": total, "back": back} if total else {"count": count}
