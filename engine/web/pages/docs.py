"""The HTTP interface for people: what `/openapi.json` says, as a page of the service itself. Read `page_of`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service

Schema = Mapping[str, Any]

COMMON: Final = frozenset({"400", "401", "403", "408", "413", "414", "415", "429", "431", "500", "503"})
"""Refusals that many operations share: they are listed once."""


def page_of(document: Callable[[], dict[str, Any]]) -> Page:
    """The page; `document` gives the OpenAPI document, which knows every route."""
    made: list[Shown] = []

    async def collect(service: Service, wanted: Wanted) -> Shown:
        if not made:  # the document never changes
            made.append(_shown(document()))
        return dict(made[0])

    return Page(path="/docs", template="docs.html", collect=collect, section="about", is_live=False, needs_states=False)


def _shown(document: Mapping[str, Any]) -> Shown:
    operations = [
        _operation(method, path, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]
    components = document["components"]
    return {
        "about": document["info"]["description"].split("\n\n"),
        "tags": [
            {
                "name": tag["name"],
                "words": tag["description"],
                "operations": [one for one in operations if one["tag"] == tag["name"]],
            }
            for tag in document["tags"]
        ],
        "refusals": [(status, told["description"]) for status, told in sorted(components["responses"].items())],
        "schemes": [
            (name, f"{told['type']} {told.get('scheme', told.get('in', ''))}".strip(), told.get("description", ""))
            for name, told in components["securitySchemes"].items()
        ],
        "is_open": {} in document["security"],
        "schemas": [_schema(name, told) for name, told in components["schemas"].items()],
    }


def _operation(method: str, path: str, told: Mapping[str, Any]) -> Shown:
    responses = told["responses"]
    body = told.get("requestBody")
    return {
        "method": method.upper(),
        "path": path,
        "id": told["operationId"],
        "tag": told["tags"][0],
        "about": told["description"],
        "is_open": told.get("security") == [],
        "parameters": [
            {
                "name": one["name"],
                "in": one["in"],
                "required": one.get("required", False),
                "type": list(_words(one["schema"])),
                "about": one.get("description") or one["schema"].get("description", ""),
            }
            for one in told.get("parameters", ())
        ],
        "body": None if body is None else _contents(body),
        "body_about": "" if body is None else body.get("description", ""),
        "answers": [
            (status, one.get("description", ""), _contents(one))
            for status, one in responses.items()
            if "$ref" not in one
        ],
        "refusals": [status for status, one in sorted(responses.items()) if "$ref" in one and status not in COMMON],
    }


def _contents(told: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """Every media type with the words for its schema."""
    return [(kind, list(_words(content["schema"]))) for kind, content in told.get("content", {}).items()]


def _schema(name: str, told: Schema) -> Shown:
    required = told.get("required", ())
    return {
        "name": name,
        "about": told.get("description", ""),
        "type": [] if "properties" in told else list(_words(told)),
        "properties": [
            {
                "name": key,
                "required": key in required,
                "type": list(_words(value)),
                "about": value.get("description", ""),
            }
            for key, value in told.get("properties", {}).items()
        ],
    }


def _words(schema: Schema) -> Iterator[str | tuple[str, str]]:
    """What a value is, as words; a pair links to a schema: (`schema`, its name)."""
    if "$ref" in schema:
        yield "schema", schema["$ref"].rpartition("/")[2]
    elif "enum" in schema:
        yield " or ".join(map(str, schema["enum"]))
    elif "const" in schema:
        yield str(schema["const"])
    elif "anyOf" in schema:
        for number, one in enumerate(schema["anyOf"]):
            yield " or " if number else ""
            yield from _words(one)
    elif schema.get("type") == "array":
        yield "array of "
        yield from _words(schema.get("items", {}))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield "object of "
        yield from _words(schema["additionalProperties"])
    else:
        yield f"{schema.get('type', 'anything')}{_bounds(schema)}"


def _bounds(schema: Schema) -> str:
    """The bounds of a value, in brackets; empty when it has none."""
    found = [
        words.format(schema[key])
        for key, words in (
            ("minimum", "from {:,}"),
            ("maximum", "to {:,}"),
            ("maxLength", "at most {:,} characters"),
            ("format", "{}"),
            ("pattern", "{}"),
            ("default", "default {!r}"),
        )
        if key in schema and schema[key] != ""
    ]
    return f" ({', '.join(found)})" if found else ""
