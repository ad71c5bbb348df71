"""Rule files: from YAML to rules, all or nothing, with every problem at once. Read `load_rules`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.config import Config, as_tuple, read_match
from engine.core.rules import Action, Match, Rule, Throttle
from engine.durations import parse_duration
from engine.errors import InvalidFiles, Problem
from engine.inventory import Inventory
from engine.patterns import compile_patterns, is_literal
from engine.rendering import Renderer, TemplateProblem, names_in
from engine.schema import did_you_mean, schema_problems
from engine.template_names import Names, template_problems
from engine.yamlfile import Document, read_document

MAX_RULES = 100_000
LASTING = frozenset({"offline", "online"})
"""Triggers that `for` makes sense with: a status can last."""

MAX_CLIENT_BYTES = 256

_FILES = ("*.yaml", "*.yml")
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRules:
    """Rules in the order of their files, and what deserves a look though it loads."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()


def rule_files(paths: Sequence[Path]) -> list[Path]:
    """The rule files that paths name: a folder means its `*.yaml` and `*.yml`, but not tests; sorted by name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = {file for pattern in _FILES for file in path.glob(pattern)}
            found += sorted(file for file in inside if not is_test_file(file) and not file.name.startswith("."))
        else:
            found.append(path)
    return found


def is_test_file(path: Path) -> bool:
    """Is it a file of rule scenarios (`*.test.yaml`), or an inventory kept beside the rules?"""
    return path.name.endswith((".test.yaml", ".test.yml")) or path.stem == "inventory"


def fingerprint(paths: Sequence[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Something that differs when a rule file was edited, added or removed; cheap."""
    found = []
    for file in rule_files(paths):
        try:
            stat = file.stat()
        except OSError:
            continue
        found.append((str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def load_rules(
    paths: Sequence[Path], *, inventory: Inventory | None = None, config: Config | None = None
) -> LoadedRules:
    """Every rule in files and folders. InvalidFiles with every problem of every file when there is an error.

    With an inventory, columns and values that rules name must exist; with a configuration, secrets must.
    """
    problems: list[Problem] = []
    rules: list[Rule] = []
    places: dict[str, str] = {}
    for file in rule_files(paths):
        before = len(problems)
        document = read_document(file, problems)
        if document is not None:
            problems += schema_problems(document, "rules")
        if document is None or any(not problem.warning for problem in problems[before:]):
            continue
        reader = _Reader(document, inventory, config, problems)
        for index, raw in enumerate(document.value["rules"]):
            line = document.place(("rules", index))[0]
            if raw["name"] in places:
                message = f"a rule named `{raw['name']}` is there already, at {places[raw['name']]}"
                problems.append(document.problem(("rules", index, "name"), message))
            places.setdefault(raw["name"], f"{file}:{line}")
            rules.append(reader.rule(index, raw))
    if any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return LoadedRules(rules=tuple(rules), problems=tuple(problems))


def rule_from_definition(text: str) -> Rule:
    """A rule from its stored definition: what is needed to end the alerts of a rule whose file has gone."""
    return build_rule(json.loads(text), _match_of(json.loads(text).get("match") or {}))


def _match_of(raw: Mapping[str, Any]) -> Match:
    return Match(
        group=as_tuple(raw.get("group")),
        device=as_tuple(raw.get("device")),
        client=as_tuple(raw.get("client")),
        ip=as_tuple(raw.get("ip")),
        attributes=tuple((column, as_tuple(value)) for column, value in (raw.get("attributes") or {}).items()),
    )


_RENDERER = Renderer()


def build_rule(raw: Mapping[str, Any], match: Match, *, file: str = "", line: int = 0) -> Rule:
    """A rule from a mapping that has passed every check; durations become milliseconds."""
    throttle = raw.get("throttle")
    condition = raw.get("condition")
    return Rule(
        name=raw["name"],
        triggers=as_tuple(raw["trigger"]),
        actions=tuple(_action(entry) for entry in raw.get("actions") or ()),
        on_recovery=tuple(_action(entry) for entry in raw.get("on_recovery") or ()),
        description=raw.get("description", ""),
        severity=raw.get("severity", "warning"),
        labels=dict(raw.get("labels") or {}),
        for_ms=parse_duration(raw["for"]) if "for" in raw else 0,
        match=match,
        condition=_RENDERER.condition(condition) if condition else None,
        condition_text=condition or "",
        condition_names=names_in(condition, expression=True) if condition else frozenset(),
        throttle=Throttle(max=throttle["max"], per_ms=parse_duration(throttle["per"]), by=as_tuple(throttle.get("by")))
        if throttle
        else None,
        flapping_skip=raw.get("flapping", "skip") == "skip",
        existing=raw.get("existing", False),
        shadow=raw.get("shadow", False),
        definition=json.dumps(raw, sort_keys=True, ensure_ascii=False),
        file=file,
        line=line,
    )


def _action(raw: Mapping[str, Any]) -> Action:
    ((kind, options),) = raw.items()
    spec = dict(options)
    if "timeout" in spec:
        spec["timeout_ms"] = parse_duration(spec.pop("timeout"))
    return Action(kind=kind, spec=spec)


class _Reader:
    """The checks a schema cannot make, for the rules of one file."""

    def __init__(
        self, document: Document, inventory: Inventory | None, config: Config | None, problems: list[Problem]
    ) -> None:
        self._document = document
        self._inventory = inventory
        self._config = config
        self._problems = problems

    def _say(self, path: Place, message: str, *, warning: bool = False) -> None:
        self._problems.append(self._document.problem(path, message, warning=warning))

    def rule(self, index: int, raw: Mapping[str, Any]) -> Rule:
        """One rule, its problems said on the way."""
        at: Place = ("rules", index)
        before = len(self._problems)
        triggers = as_tuple(raw["trigger"])
        match = read_match(self._document, (*at, "match"), raw.get("match") or {}, self._problems)
        self._check_for(at, raw, triggers)
        self._check_match(at, raw, match, triggers)
        self._check_throttle(at, raw)
        names = Names(feed_only=set(triggers) == {"feed"}, columns=self._inventory.columns if self._inventory else None)
        self._check_condition(at, raw, names)
        for part in ("actions", "on_recovery"):
            for number, entry in enumerate(raw.get(part) or ()):
                self._check_action((*at, part, number), entry, names)
        if not raw.get("actions"):
            self._say(at, f"the rule `{raw['name']}` has no actions: it fires, and nobody is told", warning=True)
        if any(not problem.warning for problem in self._problems[before:]):
            return Rule(name=raw["name"], triggers=triggers, actions=())  # never used: the load fails
        line = self._document.place(at)[0]
        return build_rule(raw, match, file=self._document.file, line=line)

    def _check_for(self, at: Place, raw: Mapping[str, Any], triggers: tuple[str, ...]) -> None:
        if "for" in raw and not LASTING & set(triggers):
            self._say((*at, "for"), f"`for` has no meaning with the trigger {', '.join(triggers)}: nothing lasts")

    def _check_match(self, at: Place, raw: Mapping[str, Any], match: Match, triggers: tuple[str, ...]) -> None:
        place = (*at, "match")
        if "feed" in triggers and match != Match():
            self._say(place, "a feed is about a source, not a client, so the trigger `feed` cannot have a `match`")
        for name in ("group", "device", "client"):
            for pattern in getattr(match, name):
                if is_literal(pattern) and len(pattern.encode()) > MAX_CLIENT_BYTES:
                    self._say((*place, name), "can never match: client ids have at most 256 bytes")
        for pattern in match.group:
            if is_literal(pattern) and "@@@" in pattern:
                self._say((*place, "group"), f"`{pattern}` can never match: the group ends before `@@@`; use `client`")
        self._check_halves(place, match)
        self._check_attributes(place, match)

    def _check_halves(self, place: Place, match: Match) -> None:
        """Literal client ids that contradict the group or device of the same rule."""
        ids = match.client
        if not ids or not all(is_literal(pattern) for pattern in ids):
            return
        for half, number in (("group", 0), ("device", 1)):
            wanted = getattr(match, half)
            if not wanted:
                continue
            patterns = compile_patterns(wanted)
            halves = [text.split("@@@", 1) if "@@@" in text else ["", text] for text in ids]
            if not any(patterns.matching(found[number]) for found in halves):
                self._say((*place, half), f"can never match together with `client`: no id given there has this {half}")

    def _check_attributes(self, place: Place, match: Match) -> None:
        for column, patterns in match.attributes:
            where = (*place, "attributes", column)
            if self._inventory is None or (not self._inventory.columns and self._config is None):
                continue
            if column not in self._inventory.columns:
                hint = did_you_mean(column, self._inventory.columns, all_of_them=True)
                none = "" if self._inventory.columns else "; no `inventory` is configured"
                self._say(where, f"can never match: the inventory has no column `{column}`{none or hint}")
                continue
            values = self._inventory.values(column) | {""}
            compiled = compile_patterns(patterns)
            if not any(compiled.matching(value) for value in values):
                hint = did_you_mean(patterns[0], sorted(values)) if is_literal(patterns[0]) else ""
                self._say(where, f"can never match: no row of the inventory has such a `{column}`{hint}")

    def _check_throttle(self, at: Place, raw: Mapping[str, Any]) -> None:
        throttle = raw.get("throttle")
        if not throttle:
            return
        if not parse_duration(throttle["per"]):
            self._say((*at, "throttle", "per"), "must be more than nothing")
        columns = self._inventory.columns if self._inventory else ()
        for name in as_tuple(throttle.get("by")):
            if name not in {"client", "group", *columns} and self._inventory is not None:
                known = ["client", "group", *columns]
                hint = did_you_mean(name, known, all_of_them=True)
                self._say((*at, "throttle", "by"), f"`{name}` is neither client, group nor an inventory column{hint}")

    def _check_condition(self, at: Place, raw: Mapping[str, Any], names: Names) -> None:
        condition = raw.get("condition")
        if not condition:
            return
        for message in template_problems(condition, names, expression=True):
            self._say((*at, "condition"), message)
        try:
            _RENDERER.condition(condition)
        except TemplateProblem as error:
            if not any(problem.path.endswith("condition") for problem in self._problems):
                self._say((*at, "condition"), str(error))

    def _check_action(self, at: Place, entry: Mapping[str, Any], names: Names) -> None:
        ((kind, spec),) = entry.items()
        place = (*at, kind)
        if kind == "log":
            self._check_template((*place, "message"), spec["message"], names)
            return
        self._check_url((*place, "url"), spec["url"], names)
        for header, value in (spec.get("headers") or {}).items():
            self._check_template((*place, "headers", header), value, names, secrets=True)
        self._check_tree((*place, "json"), spec.get("json"), names)
        if "body" in spec:
            self._check_template((*place, "body"), spec["body"], names)
        if "sign" in spec:
            self._check_secret((*place, "sign"), spec["sign"])
        if "timeout" in spec and not 0 < parse_duration(spec["timeout"]) <= 300_000:
            self._say((*place, "timeout"), "must be more than nothing and at most 5m")

    def _check_tree(self, place: Place, value: Any, names: Names) -> None:
        if isinstance(value, str):
            self._check_template(place, value, names)
        elif isinstance(value, dict):
            for key, entry in value.items():
                self._check_tree((*place, key), entry, names)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self._check_tree((*place, index), entry, names)

    def _check_url(self, place: Place, url: str, names: Names) -> None:
        literal = url.split("{", 1)[0]
        try:
            parts = urlsplit(literal)
            port = parts.port
        except ValueError as error:
            self._say(place, f"is no address: {error}")
            return
        del port
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            self._say(place, "must begin with http:// or https:// and a host, written out")
        elif "{" in url and not (parts.path or parts.query):
            self._say(place, "scheme, host and port must be written out; a template may begin after the next `/`")
        elif parts.username is not None:
            self._say(place, "holds a user name; put credentials into a header, from `secrets`")
        self._check_template(place, url, names, secrets=True)

    def _check_template(self, place: Place, source: str, names: Names, *, secrets: bool = False) -> None:
        if "{" not in source:
            return
        for message in template_problems(source, names, secrets=secrets):
            self._say(place, message)
        try:
            for name in names_in(source) & {"secrets"}:
                self._check_secrets(place, source, name)
        except TemplateProblem:
            pass  # said above

    def _check_secrets(self, place: Place, source: str, _: str) -> None:
        from engine.template_names import secrets_named

        for name in secrets_named(source):
            self._check_secret(place, name)

    def _check_secret(self, place: Place, name: str) -> None:
        if self._config is not None and name not in self._config.secrets:
            known = list(self._config.secrets)
            hint = did_you_mean(name, known, all_of_them=True)
            self._say(place, f"the secret `{name}` is not configured under `secrets`{hint}")
