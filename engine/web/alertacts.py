"""What operators do about alerts, over HTTP: silences, acknowledgements, and what the blast-radius guard held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.params import Depends
from starlette.exceptions import HTTPException

from engine.errors import BadQuestion, NotThere
from engine.web import serializers
from engine.web.answers import DEFAULT_LIMIT, MAX_LIMIT, Answers, unacknowledged
from engine.web.service import Service
from engine.web.silencing import MAX_OPEN, name_of, read_object, read_silence

MAX_BODY_BYTES = 64 * 1024

SilenceState = Literal["active", "expired"]
Limit = Annotated[int, Query(ge=1, description=f"Items wanted; at most {MAX_LIMIT} come at once.")]
Cursor = Annotated[str, Query(description="The `next` of the page before.")]


def add(app: FastAPI, service: Service, answers: Answers, loaded: Sequence[Depends]) -> None:
    """Add the routes; `loaded`: what a route asks first that must not act on half of the states."""
    _silences(app, service, answers, loaded)
    _alerts(app, service, loaded)
    _rules(app, service, answers, loaded)
    _held(app, service, loaded)


def _json(found: Any, status: int = 200) -> Response:
    return Response(serializers.as_json(found), status, media_type="application/json")


async def _body(request: Request) -> Any:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return read_object(b"".join(parts))


def _silences(app: FastAPI, service: Service, answers: Answers, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/silences")
    async def silences(
        state: SilenceState | None = None,
        author: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """Silences, newest first: who wants to hear nothing of whom, until when, and why."""
        most = min(limit, MAX_LIMIT)
        return await service.ask(
            lambda reader: _json(answers.silences(reader, state=state, author=author, limit=most, cursor=cursor))
        )

    @app.get("/v1/silences/{id_}")
    async def silence(id_: str) -> Response:
        """One silence."""
        return await service.ask(lambda reader: _json(answers.silence(reader, id_)))

    @app.post("/v1/silences", status_code=201, dependencies=loaded)
    async def add_silence(request: Request) -> Response:
        """Silence whom `match` covers, from now on and `for` so long; `author` and `comment` say who and why."""
        now_ms = service.now_ms()
        wanted = read_silence(await _body(request), service.match_value, now_ms)
        if service.silences_open() >= MAX_OPEN:
            raise HTTPException(409, f"there are {MAX_OPEN} silences already; end some of them first")
        await service.silence(wanted)
        return _json(serializers.silence_object(wanted, now_ms), 201)

    async def expire(id_: str) -> Response:
        changed = await service.expire_silence(id_)
        found = await service.ask(lambda reader: answers.silence(reader, id_))
        if not changed:
            raise HTTPException(409, f"the silence {id_} is over already, since {found['until']}")
        return _json(found)

    @app.delete("/v1/silences/{id_}", dependencies=loaded)
    async def expire_silence(id_: str) -> Response:
        """End a silence now; what it held back and still holds fires, together."""
        return await expire(id_)

    @app.post("/v1/silences/{id_}/expire", dependencies=loaded)
    async def expire_by_post(id_: str) -> Response:
        """The same."""
        return await expire(id_)


def _alerts(app: FastAPI, service: Service, loaded: Sequence[Depends]) -> None:
    @app.post("/v1/alerts/{id_}/ack", dependencies=loaded)
    async def acknowledge(id_: str, request: Request) -> Response:
        """Somebody knows (`by` says who): no more reminders. The recovery is sent all the same. A group's id means all in it."""
        by = name_of(await _body(request), "by")
        count = await service.acknowledge(id_, by)
        if not count:
            problem = await service.ask(lambda reader: unacknowledged(reader, id_))
            raise NotThere(problem) if problem.startswith("there is no") else HTTPException(409, problem)
        return _json({"acknowledged": count})


def _rules(app: FastAPI, service: Service, answers: Answers, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/rules/{rule}/why-not", dependencies=loaded)
    async def why_not(rule: str, client: str = "") -> Response:
        """Every gate between a client and a firing of the rule, in words, and which of them stops it."""
        if not client:
            raise BadQuestion("`client` is missing: about whom?")
        return _json(answers.why_not(rule, client, await service.why_not(rule, client)))


def _held(app: FastAPI, service: Service, loaded: Sequence[Depends]) -> None:
    async def act(rule: str, what: str) -> Response:
        if not rule:
            raise BadQuestion("`rule` is missing: whose held deliveries?")
        return _json({"rule": rule, "changed": await service.act_on_held(rule, what)})

    @app.post("/v1/deliveries/release", dependencies=loaded)
    async def release(rule: str = "") -> Response:
        """Send what is held of a rule."""
        return await act(rule, "release")

    @app.post("/v1/deliveries/discard", dependencies=loaded)
    async def discard(rule: str = "") -> Response:
        """Never send what is held of a rule."""
        return await act(rule, "discard")
