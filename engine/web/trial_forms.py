"""The forms of the page on which a change of rules is tried: check it, run it on history, take the file home. Read `add_trial_forms`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from engine.errors import BadQuestion, Forbidden, RollcallError
from engine.web.access.forms import STALE
from engine.web.console_acts import Acts, Refuse
from engine.web.forms import Forms, Visitor, read_form
from engine.web.html_page import html_response
from engine.web.pages.try_rules import DAYS, NEW_FILE, nothing_tried
from engine.web.service import Service

Frame = Callable[[Visitor, str], dict[str, Any]]

CHECK, TRY, DOWNLOAD = "check-rules", "try-rules", "download-rules"
"""The names of these forms: none of them changes anything."""


def add_trial_forms(app: FastAPI, service: Service, forms: Forms, acts: Acts, refuse: Refuse, frame: Frame) -> None:
    """Add their addresses; before those of acts, which take every other name."""

    def address(name: str, answer: Callable[[Mapping[str, str]], Awaitable[Any]], template: str | None) -> None:
        async def send(request: Request) -> Response:
            visitor = acts.visitor(request)
            try:
                fields = await read_form(request)
                if not forms.is_ours(request, fields):
                    raise Forbidden(STALE)
                found = await answer(fields)
            except RollcallError as error:
                return await refuse(error, visitor, "../", "try")
            if template is None:
                return _download(fields)
            shown = nothing_tried() | found | _typed(service, fields) | frame(visitor, "../")
            return await asyncio.to_thread(
                html_response, template, shown | {"section": "rules", "said": None, "live": ""}
            )

        app.add_route(f"/act/{name}", send, methods=["POST"], include_in_schema=False)

    async def check(fields: Mapping[str, str]) -> dict[str, Any]:
        found = await asyncio.to_thread(service.rule_trial.check, fields.get("file", ""), _text(fields))
        return {"problems": found, "checked": True}

    async def try_it(fields: Mapping[str, str]) -> dict[str, Any]:
        days = int(fields.get("days", "") if fields.get("days", "").isdigit() else 0)
        if days not in DAYS:
            raise BadQuestion(f"the days must be one of {', '.join(map(str, DAYS))}")
        found = await check(fields) | {"days": days}
        if any(not problem.warning for problem in found["problems"]):
            return found
        try:
            return found | {"found": await service.rule_trial.compare(fields.get("file", ""), _text(fields), days)}
        except RollcallError as error:
            return found | {"failure": str(error)}

    async def nothing(fields: Mapping[str, str]) -> dict[str, Any]:
        return {}

    address(CHECK, check, "try.html")
    address(TRY, try_it, "try.html")
    address(DOWNLOAD, nothing, None)


def _text(fields: Mapping[str, str]) -> str:
    return fields.get("text", "").replace("\r\n", "\n")


def _typed(service: Service, fields: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, for the page that follows."""
    files = sorted(service.rule_trial.files)
    return {"files": files, "file": fields.get("file") or NEW_FILE, "text": _text(fields), "new_file": NEW_FILE}


def _download(fields: Mapping[str, str]) -> Response:
    name = "".join(letter for letter in fields.get("file", NEW_FILE) if letter.isalnum() or letter in "-_.")[:100]
    headers = {"Content-Disposition": f'attachment; filename="{name or NEW_FILE}"', "X-Content-Type-Options": "nosniff"}
    return Response(_text(fields), headers=headers, media_type="application/yaml")
