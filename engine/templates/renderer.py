"""From a planned action to the request that every attempt sends: templates, sandboxed and escaped by destination.

Everything a device controls is data. A value in a URL is one percent-encoded segment, a header loses its line breaks, a
JSON string stays a JSON string. Templates run in a sandbox without a clock, without files and with bounded output; one that
fails at run time never loses the page: a plain default body goes out and says so.

Secrets are not rendered: `{{ secrets.pager }}` leaves a marker that the sender replaces, so no stored or shown request
holds one. The marker is made of NULs, which no value a device controls can contain.

Read `Renderer.render` first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import msgspec
from jinja2 import meta, nodes

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.rules import Action, Condition, Rule
from engine.errors import RollcallError
from engine.templates.command import CommandRoutes, render_command
from engine.templates.fast_path import quickened
from engine.templates.sandbox import FILTERS, MAX_TEXT, METER, Environment, TooMuch, whole_text

MAX_OUTPUT_CHARACTERS = MAX_TEXT
"""Longest text one template may produce."""

MAX_TEMPLATE_CHARACTERS = 16_384
"""Longest template text."""

MAX_CACHED_TEMPLATES = 10_000

_encode = msgspec.json.Encoder().encode

_SECRET = re.compile("\0([^\0]{1,128})\0")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEADER_CONTROL = re.compile(r"[\x01-\x1f\x7f-\x9f\u2028\u2029]")


class TemplateProblem(RollcallError):
    """A template cannot be compiled; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One request as it will be sent. `problem`: a template failed and a default body took its place. `dead`: never send."""

    request: dict[str, Any]
    target: str
    problem: str | None = None
    dead: str | None = None


RenderKind = Callable[[PlannedDelivery], Rendered]
"""Renders one kind of action that has a module of its own; never raises for what a template or a value does."""


class _Secrets:
    """`secrets` in templates: each attribute is a marker, never the secret."""

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"\0{name}\0"

    __getitem__ = __getattr__


def _finalize_plain(value: Any) -> Any:
    return "" if value is None else value


def _finalize_url(value: Any) -> str:
    """One percent-encoded segment; a secret's marker passes and is encoded when it is revealed."""
    text = "" if value is None else str(value)
    if text.startswith("\0") and _SECRET.fullmatch(text):
        return text
    encoded = quote(text, safe="")
    return f"\1{encoded}\1" if text in {".", ".."} else encoded


class Renderer:
    """Compiled templates of all rules.

    `kinds`: whoever renders the actions that are not rendered here; `commands`: where those to devices go.
    """

    def __init__(self, kinds: Mapping[str, RenderKind] | None = None, commands: CommandRoutes | None = None) -> None:
        self._kinds = dict(kinds or {})
        self._commands = commands or CommandRoutes()
        self._plain = Environment(_finalize_plain)
        self._url = Environment(_finalize_url)
        self._html = Environment(_finalize_plain, autoescape=True)
        self._htmls: dict[str, Callable[[Mapping[str, Any]], str]] = {}
        self._texts: dict[str, Callable[[Mapping[str, Any]], str]] = {}
        self._urls: dict[str, Callable[[Mapping[str, Any]], str]] = {}

    # Compiling

    def text(self, source: str) -> Callable[[Mapping[str, Any]], str]:
        """A template for text and JSON strings, compiled once; TemplateProblem when it cannot be."""
        return self._cached(self._texts, self._plain, source)

    def url(self, source: str) -> Callable[[Mapping[str, Any]], str]:
        """A template for a URL: every value is one percent-encoded segment."""
        return self._cached(self._urls, self._url, source)

    def html(self, source: str) -> Callable[[Mapping[str, Any]], str]:
        """A template for HTML: every value is text in it."""
        return self._cached(self._htmls, self._html, source)

    def _cached(
        self, cache: dict[str, Callable[[Mapping[str, Any]], str]], environment: Environment, source: str
    ) -> Callable[[Mapping[str, Any]], str]:
        found = cache.get(source)
        if found is None:
            if len(cache) >= MAX_CACHED_TEMPLATES:
                cache.clear()
            found = cache[source] = _compile(environment, source)
        return found

    def condition(self, source: str) -> Condition:
        """A compiled `condition`. One that fails at run time counts as true: a page must not be lost."""
        check_source(source)
        try:
            expression = self._plain.compile_expression(source, undefined_to_none=False)
        except jinja2.TemplateError as error:
            raise TemplateProblem(said(error)) from error

        def holds(variables: Mapping[str, Any]) -> bool:
            METER.refill()
            try:
                return bool(expression(variables))
            except Exception:  # noqa: BLE001  # whatever it is, a page is not lost for it
                return True

        return holds

    # Rendering

    def planned(self, planned: PlannedDelivery) -> Rendered:
        """The request of a planned delivery. Never raises for what a template or a value does."""
        kind = self._kinds.get(planned.action.kind)
        return kind(planned) if kind is not None else self.render(planned.action, planned.variables)

    def render(self, action: Action, variables: Mapping[str, Any]) -> Rendered:
        """The request of one action. Never raises for what a template or a value does."""
        if action.kind == "log":
            return self._log(action.spec, variables)
        if action.kind == "command":
            request, target, dead = render_command(action.spec, variables, self._commands, self._tree, said)
            return Rendered(request=request, target=target, dead=dead)
        return self._webhook(action.spec, variables)

    def _log(self, spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Rendered:
        try:
            message, problem = self.text(spec["message"])(variables), None
        except Exception as error:  # noqa: BLE001  # a default goes out instead, and says so
            message, problem = default_text(variables), said(error)
        return Rendered(request={"message": _CONTROL.sub(_escaped, message)}, target="log", problem=problem)

    def _webhook(self, spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Rendered:
        url: str = spec["url"]
        request: dict[str, Any] = {"method": spec.get("method", "POST"), "url": url}
        problems: list[str] = []
        dead = None
        if "{" in url:
            try:
                request["url"], dead = _whole(self.url(url)({**variables, "secrets": _SECRETS}))
            except Exception as error:  # noqa: BLE001  # the delivery says so
                dead = f"the url cannot be rendered: {said(error)}"
        request["headers"] = self._headers(spec.get("headers", {}), variables, problems)
        self._body(spec, variables, request, problems)
        for name in ("timeout_ms", "ok", "sign"):
            if name in spec:
                request[name] = spec[name]
        problem = "; ".join(problems) or None
        if problem:
            request["template_error"] = problem
        return Rendered(request=request, target=target_of(url), problem=problem, dead=dead)

    def _headers(self, headers: Mapping[str, str], variables: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
        found = {}
        for name, value in headers.items():
            try:
                text = self.text(value)({**variables, "secrets": _SECRETS}) if "{" in value else value
            except Exception as error:  # noqa: BLE001  # the page goes out without it, and says so
                problems.append(f"header {name}: {said(error)}")
                continue
            found[name] = _HEADER_CONTROL.sub(" ", text).encode("latin-1", "replace").decode("latin-1")
        return found

    def _body(
        self, spec: Mapping[str, Any], variables: Mapping[str, Any], request: dict[str, Any], problems: list[str]
    ) -> None:
        try:
            if "body" in spec:
                request["body"] = self.text(spec["body"])(variables)
            elif "json" in spec:
                request["json"] = self._tree(spec["json"], variables)
        except Exception as error:  # noqa: BLE001  # a default goes out instead, and says so
            problems.append(f"body: {said(error)}")
            request.pop("body", None)
            request["json"] = default_json(variables, problems[-1])

    def _tree(self, value: Any, variables: Mapping[str, Any]) -> Any:
        if isinstance(value, str):
            return self.text(value)(variables) if "{" in value else value
        if isinstance(value, Mapping):
            return {key: self._tree(entry, variables) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._tree(entry, variables) for entry in value]
        return value


_SECRETS = _Secrets()


def check_source(source: str) -> None:
    """TemplateProblem for a template that is too long to be one."""
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateProblem(f"longer than {MAX_TEMPLATE_CHARACTERS} characters")


def _compile(environment: Environment, source: str) -> Callable[[Mapping[str, Any]], str]:
    """A template as a function. The rendering loop is Jinja's own, with the output counted as it grows."""
    if "{" not in source:
        literal = whole_text(source)
        return lambda variables: literal
    check_source(source)
    try:
        tree = environment.parse(source)
        template = environment.from_string(source)
    except jinja2.TemplateError as error:
        raise TemplateProblem(said(error)) from error
    root, new_context = template.root_render_func, template.new_context

    def render(variables: Mapping[str, Any]) -> str:
        METER.refill()
        parts, length = [], 0
        for part in root(new_context(dict(variables))):
            length += len(part)
            if length > MAX_OUTPUT_CHARACTERS:
                raise TooMuch(f"more than {MAX_OUTPUT_CHARACTERS} characters")
            parts.append(part)
        return whole_text("".join(parts))

    return render if environment.autoescape else quickened(tree, environment.finish, render)


def parse(source: str, *, expression: bool = False) -> nodes.Template:
    """The syntax tree of a template (or of a condition), for checks; TemplateProblem when there is none."""
    check_source(source)
    text = "{{ (" + source + "\n) }}" if expression else source
    try:
        return _CHECKER.parse(text)
    except jinja2.TemplateError as error:
        raise TemplateProblem(said(error)) from error


_CHECKER = Environment(_finalize_plain)
KNOWN_FILTERS = FILTERS
KNOWN_TESTS = frozenset(_CHECKER.tests)
KNOWN_FUNCTIONS = frozenset(_CHECKER.globals)


def names_in(source: str, *, expression: bool = False) -> frozenset[str]:
    """The top-level names a template (or a condition) reads."""
    return frozenset(meta.find_undeclared_variables(parse(source, expression=expression)))


def templates_of(actions: Iterable[Action]) -> Iterable[str]:
    """Every template text in some actions."""

    def inside(value: Any) -> Iterable[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            for entry in value.values():
                yield from inside(entry)
        elif isinstance(value, (list, tuple)):
            for entry in value:
                yield from inside(entry)

    for action in actions:
        yield from inside(action.spec)


def names_used(rule: Rule) -> frozenset[str]:
    """The top-level names that any template of a rule reads, so that costly values are made only then."""
    found: set[str] = set()
    for source in templates_of((*rule.actions, *rule.on_recovery)):
        if "{" in source:
            found |= names_in(source)
    return frozenset(found)


def _whole(url: str) -> tuple[str, str | None]:
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
    """Scheme, host and port of a webhook, the thing that concurrency and the breaker are counted by."""
    parts = urlsplit(url.split("{", 1)[0])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def said(error: BaseException) -> str:
    """What an error says, on one line and not at length."""
    text = str(error) or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError) and error.lineno > 1:
        text = f"{error.message} (line {error.lineno})"
    return _CONTROL.sub(" ", text)[:300]


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def default_text(variables: Mapping[str, Any]) -> str:
    """What a page says when its own template fails."""
    rule, client = variables.get("rule") or {}, variables.get("client") or {}
    alert = variables.get("alert") or {}
    subject = client.get("id") or alert.get("source") or ""
    what = alert.get("detail") or variables.get("status") or ""
    mark = ", unverified" if alert.get("unverified") else ""
    return f"{rule.get('name', '')}: {subject} {'is ' if not alert.get('detail') else ''}{what}{mark}"


def default_json(variables: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """The body of a webhook whose own template fails."""
    rule, client, alert = (variables.get(name) or {} for name in ("rule", "client", "alert"))
    return {
        "text": default_text(variables),
        "rule": rule.get("name"),
        "severity": rule.get("severity"),
        "client": client.get("id"),
        "status": variables.get("status"),
        "occurred_at": variables.get("occurred_at"),
        # Of who is listed the ids are enough: the rest is as long as it likes, and holds views that are no JSON.
        "alert": {name: value for name, value in alert.items() if name not in ("members", "shared")},
        "template_error": problem,
    }


def conceal(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it may be shown: `***` in place of each secret."""
    shown = dict(request)
    if "url" in shown:
        shown["url"] = _SECRET.sub("***", shown["url"])
        shown["headers"] = {name: _SECRET.sub("***", value) for name, value in shown.get("headers", {}).items()}
    return shown


def to_json(request: Mapping[str, Any]) -> str:
    """The request as stored text."""
    return _encode(request).decode()
