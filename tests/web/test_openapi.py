"""The OpenAPI document says everything that the service does, and real answers are as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from engine.config.loader import load_config
from engine.runtime.app import build
from engine.web.routes import create

HEALTH = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("document")
    (folder / "config.yaml").write_text("version: 1\nsources: [{name: push, type: http}]\n")
    service = build(load_config(folder / "config.yaml"))
    found: Any = create(service)
    while not isinstance(found, FastAPI):  # what stands around it
        found = found._app
    yield found
    service.cells.first.store.close()


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_but_those_of_pages_is_in_the_document(app: FastAPI, document: dict[str, Any]) -> None:
    known = {(method, path) for method, path, _ in operations(document)}
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 30
    for route in routes:
        path = route.path_format.replace("_}", "}")
        for method in route.methods or ():
            if path.startswith("/v1/") or path in HEALTH:
                assert (method.lower(), path) in known, f"{method} {path} is not in the OpenAPI document"
            else:
                assert not route.include_in_schema, f"{method} {path} is a page, so it needs include_in_schema=False"


def test_every_operation_says_what_it_answers_and_what_it_refuses(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        what = f"{method} {path}: see `described` in engine/web/openapi/operation.py"
        assert operation["description"], what
        answers = {status: told for status, told in operation["responses"].items() if status < "300"}
        assert answers, what
        for status, told in answers.items():
            (content,) = told["content"].values()
            assert content["schema"], f"{what}, {status}"
        assert {"400", "403"} <= set(operation["responses"]), what
        assert ("401" in operation["responses"]) == (operation.get("security") != []), what
        assert (method in {"post", "put", "patch", "delete"}) == ("requestBody" in operation), what
        in_path = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), what


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_limit_has_its_bounds(document: dict[str, Any]) -> None:
    limits = [
        parameter["schema"]
        for *_, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "limit"
    ]
    assert len(limits) > 7
    assert {(limit["minimum"], limit["maximum"]) for limit in limits} == {(1, 1000)}


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    used = set(references(document))
    for reference in used:
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    for kind in ("schemas", "responses", "headers"):
        assert {f"#/components/{kind}/{name}" for name in document["components"][kind]} <= used, kind


@pytest.mark.parametrize("token", [True, False])
def test_the_document_says_whether_a_token_is_needed(tmp_path: Path, token: bool) -> None:
    (tmp_path / "token").write_text("x" * 40)
    http = "http: {token: {file: token}}\n" if token else ""
    (tmp_path / "config.yaml").write_text(f"version: 1\nsources: [{{name: push, type: http}}]\n{http}")
    service = build(load_config(tmp_path / "config.yaml"))
    service.cells.first.store.close()
    app: Any = create(service)
    while not isinstance(app, FastAPI):
        app = app._app
    document = app.openapi()
    assert ({} in document["security"]) == (not token)
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert {name for one in document["security"] for name in one} == set(document["components"]["securitySchemes"])
