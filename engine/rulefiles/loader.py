"""Rule files: from YAML that people write to frozen rules, with every mistake told at once.

Steps of `load_rules`: find the files; read each one; hold it against its schema; then check what a schema cannot know,
rule by rule (patterns, templates, secrets) and over all files (a name used twice). Only when nothing is wrong are there
rules: a broken edit must leave the running ones in place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.config.durations import parse_duration
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.config.matchers import as_tuple, check_match, match_of
from engine.config.schema import did_you_mean, schema_problems
from engine.config.yamlfile import Document, KeyPath, Node, read_document
from engine.core.rules import Action, Condition, Rule, Throttle
from engine.errors import InvalidFiles, Problem
from engine.rulefiles.command import command_spec
from engine.rulefiles.email import MailReader
from engine.rulefiles.options import ABOUT_MANY, KeyReader, Written, inhibition_problems, name_problem
from engine.templates.lint import Names, names_of, template_problems
from engine.templates.renderer import Renderer, TemplateProblem, names_in

MAX_RULES = 10_000
"""Rules over all files."""

MAX_FILES = 2_000
"""Rule files in a folder."""

DEFAULT_TIMEOUT_MS = 10_000
"""How long one attempt of a webhook may take when the rule does not say."""

MAX_TIMEOUT_MS = 300_000
"""How long it may say: an attempt that hangs holds one of its target's places."""

WITHOUT_FOR = frozenset(
    {"first_seen", "never_seen", "flapping", "stable", "duplicate", "unverified", "feed", *ABOUT_MANY}
)
"""Triggers that are no status that could hold for a while."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRules:
    """Rules in the order of their files; `problems` are warnings only."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()


def rule_files(paths: Iterable[Path]) -> list[Path]:
    """The rule files that `paths` name: a file is itself, a folder its `*.yaml` and `*.yml`, sorted, scenarios left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (*path.glob("*.yaml"), *path.glob("*.yml"))
            names = [file for file in inside if not re.search(r"\.test\.ya?ml$", file.name)]
            found += sorted(file for file in names if not file.name.startswith(".") and _is_rule_file(file))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _is_rule_file(file: Path) -> bool:
    """An inventory in YAML may lie beside the rules: it is called so."""
    return file.is_file() and not re.match(r"inventory\b", file.name)


def fingerprint(paths: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Name, size, time and number of each file: another value means that something was edited. Never raises."""
    found = []
    for path in paths:
        try:
            templates = path.rglob("*.j2") if path.is_dir() else path.parent.glob("*.j2")
            files = [*rule_files([path]), *sorted(islice(templates, MAX_FILES))]
        except OSError:
            files = [path]
        for file in files:
            try:
                state = file.stat()
                found.append((str(file), state.st_size, state.st_mtime_ns, state.st_ino))
            except OSError:
                found.append((str(file), -1, 0, 0))
    return tuple(found)


def load_rules(
    paths: Iterable[Path],
    *,
    inventory: Inventory | None = None,
    config: Config | None = None,
    performs: bool = True,
) -> LoadedRules:
    """All rules of the files and folders in `paths`. InvalidFiles with every problem when any of them is wrong.

    `inventory` and `config` are what rules may refer to (columns, secrets); None leaves those references unchecked.
    `performs`: False where no action is carried out, so that what only sending needs (`smtp`) may be missing.
    """
    problems: list[Problem] = []
    documents = _documents([Path(path) for path in paths], problems)
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    written: list[Written] = []
    for document in documents:
        structural = schema_problems(document, "rules")
        problems += structural
        broken = _broken_rules(structural)
        entries = document.value.get("rules") if isinstance(document.value, dict) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            _check_name(entry, index, document, seen, problems)
            if index not in broken and isinstance(entry, dict):
                written.append((document, index, entry))
                reader = _RuleReader(document, index, inventory, config, problems, performs)
                rules += [rule] if (rule := reader.rule(entry)) is not None else []
    problems += inhibition_problems(written, seen)
    if len(rules) > MAX_RULES:
        problems.append(documents[0].problem((), f"{len(rules)} rules in all, more than {MAX_RULES}"))
    order = {document.file: place for place, document in enumerate(documents)}
    problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line, problem.column))
    if any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return LoadedRules(rules=tuple(rules), problems=tuple(problems))


def _documents(paths: Sequence[Path], problems: list[Problem]) -> list[Document]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            problems.append(_file_problem(path, "does not exist"))
            continue
        try:
            found = rule_files([path])
        except OSError as error:
            problems.append(_file_problem(path, f"cannot be read: {error.strerror or error}"))
            continue
        if not found:
            problems.append(_file_problem(path, "holds no rule file (*.yaml)", warning=True))
        files += found
    files = list(dict.fromkeys(files))
    if len(files) > MAX_FILES:
        problems.append(_file_problem(paths[0], f"{len(files)} rule files, more than {MAX_FILES}"))
        return []
    documents = (read_document(file, problems) for file in files)
    return [document for document in documents if document is not None]


def _file_problem(path: Path, message: str, *, warning: bool = False) -> Problem:
    return Problem(file=str(path), line=1, column=1, path="", message=message, warning=warning)


def _broken_rules(problems: Iterable[Problem]) -> set[int]:
    """The places of rules whose structure is wrong: their content is not looked at further."""
    found = (re.match(r"rules\[(\d+)\]", problem.path) for problem in problems)
    return {int(match.group(1)) for match in found if match}


def _check_name(entry: Any, index: int, document: Document, seen: dict[str, str], problems: list[Problem]) -> None:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        return
    at: KeyPath = ("rules", index, "name")
    if name in seen:
        problems.append(document.problem(at, f"there is a rule `{name[:100]}` already, in {seen[name]}"))
    else:
        seen[name] = f"{document.file}:{document.place(at)[0]}"


def rule_from_definition(text: str) -> Rule:
    """The rule that `Rule.definition` was made from. ValueError when it is none.

    Used for a rule whose file has gone: what it sent still gets its recovery. What it referred to is not checked again.
    """
    problems: list[Problem] = []
    try:
        value = json.loads(text)
        document = Document(file="definition", root=Node(value, 1, 1))
        rule = _RuleReader(document, None, None, None, problems).rule(value)
    except (ValueError, KeyError, TypeError, AttributeError, TemplateProblem) as error:
        raise ValueError(f"is no definition of a rule: {error!r}") from error
    if rule is None:
        raise ValueError(f"is no definition of a rule: {problems[0].message}")
    return rule


_RENDERER = Renderer()


@lru_cache(maxsize=10_000)
def _condition(text: str) -> tuple[Condition, frozenset[str]]:
    """A compiled condition and the names it reads; many rules share one text."""
    return _RENDERER.condition(text), names_in(text, expression=True)


class _RuleReader:
    """Reads one rule that the schema accepted. `index` is its place in the file, None for a stored definition."""

    def __init__(
        self,
        document: Document,
        index: int | None,
        inventory: Inventory | None,
        config: Config | None,
        problems: list[Problem],
        performs: bool = False,
    ) -> None:
        self._document = document
        self._at: KeyPath = () if index is None else ("rules", index)
        self._inventory = inventory
        self._keys = KeyReader(document, self._at, inventory, config, problems)
        self._config = config
        self._secrets = None if config is None else config.secrets
        self._problems = problems
        self._checks_names = index is not None
        lacks_smtp = performs and config is not None and config.smtp is None
        self._mails = MailReader(document, self._at, problems, checked=index is not None, lacks_smtp=lacks_smtp)

    def rule(self, entry: Mapping[str, Any]) -> Rule | None:
        """The rule, or None when something in it is wrong."""
        before = sum(not problem.warning for problem in self._problems)
        entry = self._mails.with_files(entry)
        triggers = as_tuple(entry["trigger"])
        names = self._names(entry, triggers)
        self._check_triggers(entry, triggers)
        if "match" in entry:
            check_match(entry["match"], (*self._at, "match"), self._document, self._inventory, self._problems)
        throttle = self._throttle(entry)
        further = self._keys.read(entry, triggers)
        for_ms = self._duration(entry, "for", self._at)
        self._check_condition(entry, names)
        actions = self._actions(entry, "actions", names)
        on_recovery = self._actions(entry, "on_recovery", names)
        if sum(not problem.warning for problem in self._problems) > before:
            return None
        condition = entry.get("condition", "")
        compiled, condition_names = _condition(condition) if condition else (None, frozenset())
        return Rule(
            name=entry["name"],
            triggers=triggers,
            actions=actions,
            on_recovery=on_recovery,
            description=entry.get("description", ""),
            severity=entry.get("severity", "warning"),
            labels=dict(entry.get("labels", {})),
            for_ms=for_ms,
            match=match_of(entry.get("match", {})),
            condition=compiled,
            condition_text=condition,
            condition_names=condition_names,
            throttle=throttle,
            **further,
            flapping_skip=entry.get("flapping", "skip") == "skip",
            existing=entry.get("existing", False),
            shadow=entry.get("shadow", False),
            definition=json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
            file=self._document.file,
            line=self._document.place(self._at)[0],
        )

    def _say(self, path: KeyPath, message: str, *, at_key: bool = False, warning: bool = False) -> None:
        self._problems.append(self._document.problem((*self._at, *path), message, at_key=at_key, warning=warning))

    def _names(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> Names:
        return names_of(
            columns=None if self._inventory is None else self._inventory.columns,
            labels=tuple(entry.get("labels", {})),
            secrets=None if self._secrets is None else tuple(self._secrets),
            feed_only=set(triggers) == {"feed"},
            about_many=triggers[0] if ABOUT_MANY & set(triggers) else "group" if "grouping" in entry else "",
        )

    def _duration(self, entry: Mapping[str, Any], key: str, at: KeyPath, default_ms: int = 0) -> int:
        if key not in entry:
            return default_ms
        try:
            return parse_duration(entry[key])
        except ValueError as error:
            self._problems.append(self._document.problem((*at, key), str(error)))
            return default_ms

    def _check_triggers(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
        senseless = [trigger for trigger in triggers if trigger in WITHOUT_FOR]
        if "for" in entry and senseless:
            why = (
                "which is no status that could last"
                if senseless[0] != "feed"
                else "use feed.max_lag of the configuration"
            )
            self._say(("for",), f"has no meaning for the trigger `{senseless[0]}`: {why}", at_key=True)
        if "feed" in triggers:
            for key, why in (("match", "is about a source, not about clients"), ("existing", "is about no client")):
                if key in entry:
                    self._say((key,), f"has no meaning here: the trigger `feed` {why}", at_key=True)
        if "existing" in entry and entry["existing"] and not {"offline", "online"} & set(triggers):
            self._say(("existing",), "has no meaning without the trigger `offline` or `online`", at_key=True)
        if "on_recovery" in entry and set(triggers) <= {"first_seen", "stable", "schedule"}:
            self._say(("on_recovery",), f"would never run: `{triggers[0]}` is over at once", at_key=True)
        if not entry.get("actions"):
            self._say(("actions",), "has no actions: it is recorded, nothing is sent", warning=True)

    def _throttle(self, entry: Mapping[str, Any]) -> Throttle | None:
        written = entry.get("throttle")
        if written is None:
            return None
        at = (*self._at, "throttle")
        per_ms = self._duration(written, "per", at, 1)
        if per_ms == 0:
            self._say(("throttle", "per"), "must be longer than 0")
        by = as_tuple(written.get("by", ()))
        columns = None if self._inventory is None else self._inventory.columns
        for word in by:
            problem = name_problem(word, ("client", "group"), columns)
            if problem:
                self._say(("throttle", "by"), problem)
        return Throttle(max=written["max"], per_ms=per_ms, by=by)

    def _check_condition(self, entry: Mapping[str, Any], names: Names) -> None:
        if "condition" in entry:
            if "schedule" in as_tuple(
                entry["trigger"]
            ):  # asks about each client, though the alert is about all of them
                names = self._names(entry, ("offline",))
            self._tell(template_problems(entry["condition"], names, expression=True), ("condition",))

    def _tell(self, messages: Iterable[str], path: KeyPath) -> None:
        for message in messages:
            self._say(path, message)

    # Actions

    def _actions(self, entry: Mapping[str, Any], key: str, names: Names) -> tuple[Action, ...]:
        found = []
        for index, written in enumerate(entry.get(key, ())):
            kind, spec = next(iter(written.items()))
            at: KeyPath = (key, index, kind)
            if kind == "log":
                self._check_template(spec["message"], names, (*at, "message"))
                found.append(Action(kind="log", spec=dict(spec)))
            elif kind == "command":
                found.append(Action(kind="command", spec=self._command(spec, at, names)))
            elif kind == "email":
                found.append(Action(kind="email", spec=self._mails.read(spec, at, names)))
            else:
                found.append(Action(kind="webhook", spec=self._webhook(spec, at, names)))
        return tuple(found)

    def _command(self, written: Mapping[str, Any], at: KeyPath, names: Names) -> dict[str, Any]:
        self._check_template(written["to"], names, (*at, "to"))
        self._check_tree(written["payload"], (*at, "payload"), names)
        mqtt = None if self._config is None else self._config.mqtt
        return command_spec(
            written, lambda path, why: self._say((*at, *path), why), mqtt, is_known=self._config is not None
        )

    def _webhook(self, written: Mapping[str, Any], at: KeyPath, names: Names) -> dict[str, Any]:
        spec: dict[str, Any] = {"method": "POST", **written}
        spec["timeout_ms"] = self._duration(spec, "timeout", (*self._at, *at), DEFAULT_TIMEOUT_MS)
        spec.pop("timeout", None)
        if not 0 < spec["timeout_ms"] <= MAX_TIMEOUT_MS:
            self._say((*at, "timeout"), f"must be longer than 0 and at most {MAX_TIMEOUT_MS // 60_000}m")
        self._check_url(spec["url"], (*at, "url"), names)
        for name, value in spec.get("headers", {}).items():
            self._check_header(name, value, (*at, "headers", name), names)
        if "json" in spec:
            self._check_tree(spec["json"], (*at, "json"), names)
        if "body" in spec:
            self._check_template(spec["body"], names, (*at, "body"))
        if "sign" in spec and self._secrets is not None and spec["sign"] not in self._secrets:
            hint = did_you_mean(spec["sign"], list(self._secrets), all_of_them=True)
            self._say((*at, "sign"), f"the configuration has no secret `{spec['sign']}`{hint}")
        return spec

    def _check_url(self, url: str, at: KeyPath, names: Names) -> None:
        problem = url_problem(url)
        if problem:
            self._say(at, problem)
        self._check_template(url, names, at, secrets_allowed=True)

    def _check_header(self, name: str, value: str, at: KeyPath, names: Names) -> None:
        if name.lower() in RESERVED_HEADERS:
            self._say(at, f"the header `{name}` is set by the sender and cannot be chosen", at_key=True)
        self._check_template(value, names, at, secrets_allowed=True)

    def _check_tree(self, value: Any, at: KeyPath, names: Names) -> None:
        if isinstance(value, str):
            self._check_template(value, names, at)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if "{{" in key:
                    self._say(
                        (*at, key),
                        f"a key of `{at[3]}` is no template: it is sent as it stands",
                        at_key=True,
                        warning=True,
                    )
                self._check_tree(inner, (*at, key), names)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self._check_tree(inner, (*at, index), names)

    def _check_template(self, source: str, names: Names, at: KeyPath, *, secrets_allowed: bool = False) -> None:
        if "{" not in source or not self._checks_names:
            return
        found = template_problems(source, names, secrets_allowed=secrets_allowed)
        self._tell(found, at)
        if not found and "{%" in source:
            self._check_compiles(source, at)

    def _check_compiles(self, source: str, at: KeyPath) -> None:
        """What only the compiler notices in statements: loops nested too deeply, a name that cannot be assigned."""
        try:
            _RENDERER.text(source)
        except TemplateProblem as error:
            self._say(at, f"is no template that can be read: {error}")
        except (RecursionError, SyntaxError, MemoryError):
            self._say(at, "is nested too deeply")


def url_problem(url: str) -> str | None:
    """Why a webhook cannot go to `url` (its path and query may hold templates); None when it can."""
    literal = re.split(r"\{\{|\{%|\{#", url, maxsplit=1)[0]
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", literal)
    if found is None:
        return (
            "must begin with http:// or https://; scheme, host and port are literal, templates come in path and query"
        )
    if found.group(1) not in {"http", "https"} or not found.group(2):
        return f"`{found.group(1)[:20]}` is not supported: use http:// or https://"
    authority = re.match(r"[^/?#\\]*", literal[found.end() :])
    assert authority is not None
    host_part = authority.group()
    if "@" in host_part:
        return "must hold no user and password: put them in a header, from `secrets`"
    if found.end() + authority.end() == len(literal) and literal != url:
        return "host and port must be literal: a template may stand only after the `/` that begins the path"
    if "#" in literal:
        return "must hold no fragment (`#`): it would not be sent"
    if re.search(r"[\s\\\x00-\x1f\x7f]", re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", url, flags=re.DOTALL)):
        return "holds a space, a backslash or a control character; write %20 for a space"
    return _host_problem(host_part)


def _host_problem(host_part: str) -> str | None:
    try:
        parts = urlsplit(f"//{host_part}")
        port = parts.port
    except ValueError as error:
        return f"has a host or port that cannot be used: {error}"
    if not parts.hostname:
        return "has no host"
    if port == 0 or host_part.endswith(":"):
        return "has no port that can be used"
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname):
        return f"has a host that cannot be used: `{parts.hostname[:60]}`"
    return None
