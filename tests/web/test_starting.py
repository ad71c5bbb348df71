"""What is answered while the states are being loaded: that they are, and never half of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.config.loader import load_config
from engine.runtime.app import build
from engine.web.routes import create


async def asked(app: Any, method: str, path: str) -> tuple[int, dict[str, str], Any]:
    """One request to an application that no server stands before: (status, headers, body)."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": headers, "http_version": "1.1", "scheme": "http"}  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 503),
        ("GET", "/v1/clients", 503),
        ("GET", "/v1/clients/x", 503),
        ("GET", "/v1/clients/x/timeline", 503),
        ("DELETE", "/v1/clients/x", 503),
        ("POST", "/v1/deliveries/1/retry", 503),
        ("POST", "/v1/quarantine/retry", 503),
        ("POST", "/v1/events", 429),
        ("GET", "/v1/alerts", 200),
        ("GET", "/v1/rules", 200),
    ],
)
def test_before_the_states_are_loaded(tmp_path: Path, method: str, path: str, status: int) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nsources: [{name: push, type: http}]\n")
    service = build(load_config(tmp_path / "config.yaml"))
    try:
        answered, headers, body = asyncio.run(asked(create(service), method, path))
    finally:
        service.cells.first.store.close()
    assert answered == status
    if status in {429, 503} and path != "/readyz":
        assert headers["retry-after"] == "1"
        assert headers["content-type"] == "application/problem+json"
        assert body["title"]
