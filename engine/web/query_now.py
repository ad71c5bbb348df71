"""One query to the broker, for a person who waits for it. Read `query_now`."""

from __future__ import annotations

from engine.core.client_ids import impossible_id
from engine.core.presence.query import StatusAnswer
from engine.errors import NotConfigured, NotThere
from engine.web.html_page import counted, plain
from engine.web.service import NO_PROVIDER, Service


async def query_now(service: Service, client: str) -> str:
    """What the broker answered, as a sentence; the status from events when there is no answer in time."""
    answer, problem = await asked(service, client)
    if answer is None or answer.connections is None:
        return f"No answer: {problem}. What is shown follows from events."
    if not answer.connections:
        return f"The broker says now: {plain(client)} is offline, it has no connection."
    return f"The broker says now: {plain(client)} is online, with {counted(answer.connections, 'connection')}."


async def asked(service: Service, client: str) -> tuple[StatusAnswer | None, str]:
    """What the broker answered, None: nothing in time, and why there would be no answer. NotConfigured, NotThere."""
    if service.queries is None:
        raise NotConfigured(NO_PROVIDER)
    if problem := impossible_id(client):
        raise NotThere(problem)
    answer = await service.queries.verify(client)
    return answer, service.queries.trouble or "the broker gave no answer in time"
