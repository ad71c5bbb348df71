"""Reads the `webhook` action of a rule, and checks its URL and headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from engine.config.endpoints import host_problem
from engine.config.schema import did_you_mean
from engine.config.yamlfile import KeyPath
from engine.rulefiles.context import RuleContext
from engine.rulefiles.template_checks import TemplateChecks
from engine.templates.breakouts import PLAIN, syntax_of

DEFAULT_TIMEOUT_MS = 10_000
"""How long one attempt of a webhook may take, unless the rule says otherwise."""

MAX_TIMEOUT_MS = 300_000
"""Longest timeout: an attempt that hangs occupies one of the places that its target has."""

RESERVED_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "idempotency-key",
        "expect",
        "upgrade",
        "te",
        "trailer",
    }
)
"""Headers that the sender sets itself."""


def webhook_spec(
    context: RuleContext, written: Mapping[str, Any], at: KeyPath, templates: TemplateChecks
) -> dict[str, Any]:
    """The action as rendering takes it: `method` set, `timeout` replaced by `timeout_ms`. Mistakes are reported."""
    spec: dict[str, Any] = {"method": "POST", **written}
    spec["timeout_ms"] = context.duration_ms(spec, "timeout", at, DEFAULT_TIMEOUT_MS)
    spec.pop("timeout", None)
    if not 0 < spec["timeout_ms"] <= MAX_TIMEOUT_MS:
        message = f"must be longer than 0 and at most {MAX_TIMEOUT_MS // 60_000}m"
        context.report((*at, "timeout"), message)
    if problem := url_problem(spec["url"]):
        context.report((*at, "url"), problem)
    templates.check(spec["url"], (*at, "url"), secrets_allowed=True)
    for name, value in spec.get("headers", {}).items():
        header_at = (*at, "headers", name)
        if name.lower() in RESERVED_HEADERS:
            context.report(header_at, f"the header `{name}` is set by Rollcall and cannot be changed", at_key=True)
        templates.check(value, header_at, secrets_allowed=True, syntax=PLAIN)
    if "json" in spec:
        templates.check_tree(spec["json"], (*at, "json"), secrets_allowed=True)
    if "body" in spec:
        headers = {name.lower(): value for name, value in spec.get("headers", {}).items()}
        syntax = syntax_of(spec["body"], headers.get("content-type", ""))
        templates.check(spec["body"], (*at, "body"), secrets_allowed=True, syntax=syntax)
    secrets = context.secrets
    if "sign" in spec and secrets is not None and spec["sign"] not in secrets:
        hint = did_you_mean(spec["sign"], secrets, all_of_them=True)
        context.report((*at, "sign"), f"the configuration has no secret `{spec['sign']}`{hint}")
    return spec


def url_problem(url: str) -> str | None:
    """Why a webhook cannot go to `url` (its path and query may hold templates); None when it can."""
    literal = re.split(r"\{\{|\{%|\{#", url, maxsplit=1)[0]
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", literal)
    if found is None:
        return "must begin with http:// or https://: templates are allowed only in path and query"
    if found.group(1) not in {"http", "https"} or not found.group(2):
        return f"`{found.group(1)[:20]}` is not supported: use http:// or https://"
    authority = re.match(r"[^/?#\\]*", literal[found.end() :])
    assert authority is not None
    host_part = authority.group()
    if "@" in host_part:
        return "must not contain a user name or password: send them in a header, from `secrets`"
    if found.end() + authority.end() == len(literal) and literal != url:
        return "a template is allowed only after the `/` that begins the path: host and port must be literal"
    if "#" in literal:
        return "must not contain a fragment (`#`): it is never sent"
    if re.search(r"[\s\\\x00-\x1f\x7f]", re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", url, flags=re.DOTALL)):
        return "contains a space, a backslash or a control character; write %20 for a space"
    return _host_problem(host_part)


def _host_problem(host_part: str) -> str | None:
    try:
        parts = urlsplit(f"//{host_part}")
        port = parts.port
    except ValueError as error:
        return f"has an invalid host or port: {error}"
    if not parts.hostname:
        return "has no host"
    if port == 0 or host_part.endswith(":"):
        return "has an invalid port"
    return host_problem(parts.hostname)
