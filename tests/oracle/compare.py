"""What a replay printed against what the oracle expects, as sentences."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from .oracle import Line

ALERT_ID = re.compile("[0-9a-f]{28}")


def parsed(output: str) -> list[Line]:
    """The lines of `--format jsonl`, pending alerts left out."""
    lines = [json.loads(text) for text in output.splitlines() if text.strip()]
    return [line for line in lines if line.get("state") != "pending"]


def differences(expected: list[Line], actual: list[Line]) -> list[str]:
    """Every way in which two replays disagree; empty when they agree.

    Lines are compared as multisets, and as sequences for one client (transitions) and for one rule and client (alerts,
    deliveries), which is the order that matters within an instant; over all, instants never go back. Which of several bundles is
    first that are told of in one instant is nobody's promise.
    """
    found = _unmatched("missing", expected, actual) + _unmatched("not expected", actual, expected)
    if not found:
        ours, theirs = _threads(expected), _threads(actual)
        found += [
            f"order of {thread}: {theirs[thread]} instead of {ours[thread]}"
            for thread in ours
            if ours[thread] != theirs[thread]
        ] or _identities(expected, actual)
    instants = [instant for line in actual if (instant := line.get("settled_at", line.get("at")))]
    found += [f"the clock goes back from {a} to {b}" for a, b in pairwise(instants) if b < a]
    if actual and actual[-1]["type"] != "summary":
        found.append("the summary is not last")
    return found


def clients_only(lines: list[Line]) -> list[Line]:
    """The lines about clients, without alerts and deliveries."""
    kept = [line for line in lines if line["type"] not in ("alert", "delivery")]
    return [{**line, "deliveries": 0} if line["type"] == "summary" else line for line in kept]


def essence(line: Line) -> str:
    """What of a line is compared, as text."""
    told: dict[str, Any] = dict(line)
    if line["type"] == "delivery":
        told["shadow"] = line.get("shadow", line.get("state") == "shadow")
        told = {key: told[key] for key in ("type", "rule", "client", "action", "phase", "at", "shadow")}
        if line["client"] is None:
            told["clients"] = sorted(line.get("clients", []))
    if line["type"] == "alert":
        told = {key: told[key] for key in ("type", "rule", "client", "state", "reason", "at") if key in told}
    if line["type"] == "rejected":
        del told["reason"]
    return json.dumps(told, sort_keys=True)


def _unmatched(word: str, these: Iterable[Line], those: Iterable[Line]) -> list[str]:
    left = [essence(line) for line in those]
    found = []
    for line in these:
        if (text := essence(line)) in left:
            left.remove(text)
        else:
            found.append(f"{word} {text}")
    return found


def _identities(expected: list[Line], actual: list[Line]) -> list[str]:
    """Deliveries about one thing carry one `alert.id`, which is nobody else's. Looks at log lines, whose message is that id."""
    names: dict[Any, str] = {}
    found = []
    ours, theirs = _logged(expected), _logged(actual)
    for thread, lines in ours.items():
        for line, other in zip(lines, theirs[thread], strict=True):
            id_ = other["request"]["message"]
            if ALERT_ID.fullmatch(id_) and names.setdefault(line["about"], id_) != id_:
                found.append(f"{essence(other)} is called {id_} instead of {names[line['about']]}")
    doubles = [id_ for id_, count in Counter(names.values()).items() if count > 1]
    return found + [f"{id_} stands for more than one thing" for id_ in doubles]


def _logged(lines: list[Line]) -> dict[tuple[Any, ...], list[Line]]:
    logged: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in _bundles_sorted(lines):
        if line["type"] == "delivery" and line["action"] == "log":
            logged[line["rule"], line["client"]].append(line)
    return logged


def _bundles_sorted(lines: list[Line]) -> list[Line]:
    """The lines, in another order only where lists leave in one instant."""
    lists = [line for line in lines if line["type"] == "delivery" and line["client"] is None]
    others = [line for line in lines if line["type"] != "delivery" or line["client"] is not None]
    return [*others, *sorted(lists, key=lambda line: (line["at"], essence(line)))]


def _threads(lines: list[Line]) -> dict[tuple[Any, ...], list[str]]:
    threads: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for line in _bundles_sorted(lines):
        if line["type"] == "transition":
            threads["transitions", line["client"]].append(essence(line))
        elif line["type"] in ("alert", "delivery"):
            threads[line["type"], line["rule"], line["client"]].append(essence(line))
    return threads
