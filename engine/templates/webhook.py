"""From a webhook as written in a rule to its request: URL, headers and body, each escaped for where it goes.

A value in a URL is one percent-encoded segment, a header loses its line breaks, a JSON string stays a JSON string. A text whose
template fails is replaced by a default, and the delivery says so; a URL that fails makes the delivery dead. Read `render_webhook`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from engine.templates.compiler import Compiler
from engine.templates.defaults import default_json
from engine.templates.json_body import json_body, with_secrets
from engine.templates.rendered import Rendered
from engine.templates.request_budget import RequestBudget
from engine.templates.text import error_text

MAX_PATH_CHARS: Final = 200
"""Of a path in the name of a target; a longer one is cut and told apart by a digest."""

_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_HEADER_CONTROL = re.compile(r"[\x01-\x1f\x7f-\x9f\u2028\u2029]")


def render_webhook(compiler: Compiler, spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Rendered:
    """The request of a webhook. Never raises for what a template or a value does."""
    url: str = spec["url"]
    request: dict[str, Any] = {"method": spec.get("method", "POST"), "url": url}
    problems: list[str] = []
    budget = RequestBudget()
    dead = None
    if "{" in url:
        try:
            request["url"], dead = _finished_url(budget.text(compiler.url(url), with_secrets(variables)))
        except Exception as error:  # noqa: BLE001  # the delivery is dead and says so
            dead = f"the url cannot be rendered: {error_text(error)}"
    request["headers"] = _headers(compiler, spec.get("headers", {}), variables, budget, problems)
    _body(compiler, spec, variables, budget, request, problems)
    for name in ("timeout_ms", "ok", "sign"):
        if name in spec:
            request[name] = spec[name]
    problem = "; ".join(problems) or None
    if problem:
        request["template_error"] = problem
    return Rendered(request=request, target=target_of(url), problem=problem, dead=dead)


def _headers(
    compiler: Compiler,
    headers: Mapping[str, str],
    variables: Mapping[str, Any],
    budget: RequestBudget,
    problems: list[str],
) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        try:
            text = budget.text(compiler.text(value), with_secrets(variables)) if "{" in value else value
        except Exception as error:  # noqa: BLE001  # sent without it, and the request says so
            problems.append(f"header {name}: {error_text(error)}")
            continue
        # The text goes over the wire as UTF-8, which has no bytes for halves of surrogate pairs.
        found[name] = _HEADER_CONTROL.sub(" ", text).encode("utf-8", "backslashreplace").decode()
    return found


def _body(
    compiler: Compiler,
    spec: Mapping[str, Any],
    variables: Mapping[str, Any],
    budget: RequestBudget,
    request: dict[str, Any],
    problems: list[str],
) -> None:
    """Put the body into `request`, as `body` or `json`. A text that fails is replaced by a default: a `body` is one text."""
    if "json" in spec:
        request["json"] = json_body(compiler, spec["json"])(variables, budget, problems)
    elif "body" in spec:
        try:
            read = with_secrets(variables) if "secrets" in spec["body"] else variables
            request["body"] = budget.text(compiler.text(spec["body"]), read)
        except Exception as error:  # noqa: BLE001  # a default is sent instead, and says so
            problems.append(f"body: {error_text(error)}")
            request["json"] = default_json(variables, problems[-1])


def _finished_url(url: str) -> tuple[str, str | None]:
    """A rendered URL without the marks around dot values, and why it must never be sent, if a dot is a whole segment."""
    if "\1" not in url:
        return url, None
    path = url.split("?", 1)[0]
    for segment in path.split("/"):
        bare = segment.replace("\1", "")  # two values of `.` beside each other are one segment of `..`
        if bare != segment and bare in {".", ".."}:
            return url.replace("\1", ""), f"a value of {bare!r} would be a path segment of the url"
    return url.replace("\1", ""), None


def target_of(url: str) -> str:
    """The target of a webhook: scheme, host, port and literal path. Concurrency and the circuit breaker are counted by it.

    The path counts as far as it is the same for every delivery: as written in the rule, up to the first template. So there are never
    more targets than the rules have URLs, whatever devices call themselves.
    """
    parts = urlsplit(_TEMPLATE.split(url, maxsplit=1)[0])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    path = parts.path if parts.path != "/" else ""
    if len(path) > MAX_PATH_CHARS:
        path = f"{path[:MAX_PATH_CHARS]}~{sha256(path.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"
