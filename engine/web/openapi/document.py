"""The OpenAPI document: FastAPI's list of routes, with schemas, refusals and security schemes. Read `build`.

It is made when it is asked for first, so a start does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, is_typeddict

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from engine.web.openapi import access_objects, alert_objects, client_objects, fleet_objects, service_objects
from engine.web.openapi.operation import REFUSALS, content, named

TITLE = "Rollcall"

ABOUT = """Which MQTT clients are really online, and what to do when that changes.

Instants are RFC 3339 in UTC with milliseconds. Lists return `items` and `next`, the `cursor` of the next page. An unknown parameter is refused.
Errors are `application/problem+json`. Client ids in paths are percent-encoded."""

HEADERS: dict[str, Any] = {
    "rollcall-as-of": {
        "description": "With several machines: up to when this replica has read what the owner of the cell has decided.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "location": {"description": "Where the answer will be.", "schema": {"type": "string"}},
    "retry-after": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
"""Headers of answers."""

SCHEMES: dict[str, Any] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `rollcall token add`, or that of `http.token`.",
    },
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "The same token as a password, with any name.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "rollcall_session",
        "description": "The session of a browser, from `/login`; over TLS its name begins with `__Host-`. With every change comes `X-CSRF-Token`.",
    },
}
"""How a request may show that it is allowed."""

TAGS = {
    "events": "Events and the quarantine",
    "clients": "Clients and their status",
    "alerts": "Rules, alerts and silences",
    "deliveries": "Deliveries",
    "access": "Users, tokens and the audit log",
    "service": "Sources, sweeps and the service itself",
}
"""Groups of operations; see `_tag`."""

_OF_TAG = {
    "events": "events",
    "quarantine": "events",
    "clients": "clients",
    "fleet": "clients",
    "alerts": "alerts",
    "silences": "alerts",
    "rules": "alerts",
    "why-not": "alerts",
    "deliveries": "deliveries",
    "me": "access",
    "users": "access",
    "tokens": "access",
    "audit": "access",
}
"""The tag of the paths that begin with a word; others are about the service."""


def build(app: FastAPI, *, needs_token: bool) -> dict[str, Any]:
    """The document. `needs_token`: every operation needs a token, except where a route says that it does not."""
    found = get_openapi(title=TITLE, version=app.version, description=ABOUT, routes=app.routes)
    found["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    found["security"] = [{name: []} for name in SCHEMES] if needs_token else [{}, *({name: []} for name in SCHEMES)]
    found["components"] = {
        "schemas": _schemas(),
        "responses": {str(status): _refusal(status, about) for status, about in REFUSALS.items()},
        "headers": HEADERS,
        "securitySchemes": SCHEMES,
    }
    found["paths"] = {path.replace("_}", "}"): operations for path, operations in found["paths"].items()}
    for path, operation in _operations(found):
        operation["tags"] = [_OF_TAG.get(path.split("/")[2] if path.startswith("/v1/") else "", "service")]
        _correct(operation)
        _close_body(operation, found["components"]["schemas"])
    return found


def _refusal(status: int, about: str) -> dict[str, Any]:
    found = {"description": about, "content": content("Problem", "application/problem+json")}
    return found | (
        {"headers": {"retry-after": {"$ref": "#/components/headers/retry-after"}}} if status in (429, 503) else {}
    )


def _schemas() -> dict[str, Any]:
    kinds = [
        kind
        for module in (client_objects, alert_objects, fleet_objects, service_objects, access_objects)
        for kind in _objects_of(module)
    ]
    _, of_classes = msgspec.json.schema_components(kinds, ref_template=REFERENCE + "{name}")
    found = {_shown_name(name): _renamed(schema) for name, schema in of_classes.items()}
    found["NewSilence"]["allOf"] = [
        {"anyOf": [{"required": ["match"]}, {"required": ["rule"]}]},
        {"anyOf": [{"required": ["for", "author", "comment"]}, IS_DRY_RUN]},
    ]
    acts = (
        "Silence",
        "Acknowledged",
        "WhyNot",
        "RulesExplained",
        "Delivery",
        "HeldChanged",
        "Forgotten",
        "Retried",
        "SweepReport",
    )
    found["ActAnswer"] = {"description": "What the act returned.", "anyOf": [named(name) for name in acts]}
    found["SweepBegun"] = {
        "description": "The sweep, or where its answer will be.",
        "anyOf": [named("SweepReport"), named("Waiting")],
    }
    return dict(sorted(found.items()))


def _shown_name(name: str) -> str:
    """The name of a schema: that of its class, which ends in `Object` where it describes an object of another class."""
    return name.removesuffix("Object")


def _renamed(schema: Any) -> Any:
    """The same with the names of schemas in its references and its title."""
    if isinstance(schema, list):
        return [_renamed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _shown_name(value) if key in ("title", "$ref") and isinstance(value, str) else _renamed(value)
        for key, value in schema.items()
    }


def _objects_of(module: Any) -> Iterator[Any]:
    for name, value in vars(module).items():
        is_ours = isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
        if is_ours and (is_typeddict(value) or issubclass(value, msgspec.Struct)):
            yield value


REFERENCE = "#/components/schemas/"

IS_DRY_RUN = {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}}


def _operations(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in found["paths"].items():
        for operation in operations.values():
            yield path, operation


def _close_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Acts refuse keys that they do not know. Events keep them, and are no act: their body is not a single schema."""
    for told in operation.get("requestBody", {}).get("content", {}).values():
        name = told["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            schemas[name]["additionalProperties"] = False


def _correct(operation: dict[str, Any]) -> None:
    """What FastAPI supposes, and what is so: parameters are refused with 400, and there is no null in an address."""
    if "$ref" not in operation["responses"].get("422", {"$ref": ""}):
        del operation["responses"]["422"]
    for status, response in operation["responses"].items():
        if "$ref" in response:
            operation["responses"][status] = {"$ref": response["$ref"]}
    for parameter in operation.get("parameters", ()):
        parameter["name"] = parameter["name"].rstrip("_")
        parameter["schema"] = _without_null(parameter["schema"])
        parameter["schema"].pop("title", None)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices: Sequence[dict[str, Any]] = schema.get("anyOf", ())
    kept = [one for one in choices if one != {"type": "null"}]
    if len(kept) != 1 or len(kept) == len(choices):
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kept[0]
