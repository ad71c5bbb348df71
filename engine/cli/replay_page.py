"""`rollcall replay --format html`: one page without further files, with everything that devices wrote escaped.

It has drawings, and tables that a script searches; without scripts the first rows of each can be read. Read `page`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from engine.cli.replay_drawings import drawings_of
from engine.core.foreign_text import visible_text
from engine.replay.diff import ONLY_OLD, TOTALS, original
from engine.web.asset_files import content_of

MAX_ROWS: Final = 50_000
"""Rows of one table that the page holds at most."""

MAX_CHARACTERS: Final = 16_000_000
"""Of the rows of one table: more makes browsers slow."""

MAX_CELL: Final = 2_000
"""Characters of one cell: a list of a thousand clients is cut."""

SHOWN: Final = 200
"""Rows of a table that are there without the script; it shows as many at first."""

Line = dict[str, Any]


def page(
    events: str,
    rules: str,
    lines: Sequence[Line],
    changes: Sequence[Line] | None = None,
    totals: Sequence[Line] = (),
) -> str:
    """The page for the lines of a replay, whose last one is the summary.

    What differs from other rules comes first: the `totals` by rule, then the `changes`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = lambda value: visible_text(str(value))
    sections = _sections(lines, changes, totals)
    script = _file("replay.js").replace("\r\n", "\n")
    return environment.from_string(_file("replay.html")).render(
        events=events,
        rules=rules,
        summary=[(name, value) for name, value in lines[-1].items() if name != "type"],
        sections=sections,
        shown=SHOWN,
        drawings=drawings_of(lines),
        data=_inside_html(json.dumps([section["rows"] for section in sections], ensure_ascii=False)),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=content_of("drawings.css").decode(),
    )


def _file(name: str) -> str:
    return (resources.files("engine.cli") / "templates" / name).read_text("utf-8")


def _inside_html(text: str) -> str:
    """JSON that may stand in a page: nothing in it ends its element."""
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def _sections(lines: Sequence[Line], changes: Sequence[Line] | None, totals: Sequence[Line]) -> list[Line]:
    shown = [line for line in lines if line.get("state") != "pending"]
    found = [
        _section("Alerts", ("at", "rule", "about", "state", "reason"), _of(shown, "alert"), _alert),
        _section("Deliveries", ("at", "rule", "about", "phase", "action", "what"), _of(shown, "delivery"), _delivery),
        _section(
            "Transitions",
            ("settled", "client", "status", "was", "occurred", "flaps"),
            _of(shown, "transition"),
            _transition,
        ),
    ]
    rejected = _of(shown, "rejected")
    if rejected:
        found.insert(0, _section("Rejected lines", ("line", "reason"), rejected, _rejected))
    if changes is not None:
        columns = ("at", "only with", "kind", "rule", "about", "what")
        found.insert(0, _section("Differences", columns, changes, _change))
        found.insert(0, _section("Rules", ("rule", *TOTALS), totals, _total))
    return found


def _of(lines: Iterable[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["type"] == kind]


def _section(title: str, columns: Sequence[str], lines: Sequence[Line], row: Callable[[Line], Line]) -> Line:
    rows: list[list[str]] = []
    room = MAX_CHARACTERS
    for line in lines[:MAX_ROWS]:
        found = row(line)
        cells = [found["mark"], *(_cell(cell) for cell in found["cells"])]
        room -= sum(map(len, cells))
        if room < 0:
            break
        rows.append(cells)
    return {"title": title, "columns": columns, "count": len(lines), "rows": rows}


def _cell(value: object) -> str:
    text = visible_text(str(value))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def about(line: Line) -> str:
    """The client, the clients or the key that a line is about."""
    clients = line.get("clients")
    if line.get("client"):
        return str(line["client"])
    # The `key` of a delivery is its own; what it is about stands beside it.
    key = line.get("group_key") if line["type"] == "delivery" else line.get("key")
    return ", ".join(clients) if clients else json.dumps(key, ensure_ascii=False)


def done(line: Line) -> str:
    """What a delivery would have sent, in one line."""
    request = line["request"]
    if "message_id" in request:
        return f"to {', '.join([*request['to'], *request['cc']])}: {request['subject']}"
    if "topic" in request:
        payload = request["payload"]
        return f"to {request['to']}: {payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)}"
    if "receiver" in request:
        return f"to {request['receiver'] or request.get('via')}: {request['title']}"
    message = request.get("message")
    return str(message) if message is not None else f"{request.get('method')} {request.get('url')}"


def state_of(line: Line) -> str:
    """Why a delivery would not be sent, in parentheses; empty for one that would."""
    why = f": {line['reason']}" if line.get("reason") else ""
    return f" ({line['state']}{why})" if line.get("state") else ""


def step(line: Line) -> str:
    """The new state of an alert, or the phase and the content of a delivery, in one line."""
    if line["type"] == "alert":
        return f"{line['state']} ({line['reason']})" if line.get("reason") else str(line["state"])
    phase = "" if line["phase"] == "firing" else f" {line['phase']}"
    return f"{line['action']}{phase}{state_of(line)}: {done(line)}"


def _alert(line: Line) -> Line:
    cells = [line["at"], line["rule"], about(line), line["state"], line.get("reason", "")]
    return {"mark": line["state"], "cells": cells}


def _delivery(line: Line) -> Line:
    what = f"{done(line)}{state_of(line)}"
    cells = [line["at"], line["rule"], about(line), line.get("phase", ""), line["action"], what]
    return {"mark": line.get("state", ""), "cells": cells}


def _transition(line: Line) -> Line:
    status = f"{line['status']}, disconnected gracefully" if line["graceful"] else line["status"]
    was = "never seen" if line["first_seen"] else line["previous"]
    return {"mark": "", "cells": [line["settled_at"], line["client"], status, was, line["occurred_at"], line["flaps"]]}


def _rejected(line: Line) -> Line:
    return {"mark": "rejected", "cells": [line["line"], line["reason"]]}


def _total(one: Line) -> Line:
    cells = [one["rule"], *[f"{one[name][0]} → {one[name][1]}" for name in TOTALS]]
    return {"mark": "" if all(one[name][0] == one[name][1] for name in TOTALS) else "new", "cells": cells}


def _change(change: Line) -> Line:
    line, is_old = original(change), change["side"] == ONLY_OLD
    whose = "the old rules" if is_old else "the new rules"
    cells = [line["at"], whose, line["type"], line["rule"], about(line), step(line)]
    return {"mark": "gone" if is_old else "new", "cells": cells}
