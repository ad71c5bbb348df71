"""E-mails in rule files: recipients, subjects, and templates that lie in files of their own, checked when rules are loaded.

A template file ends in `.j2` and is named relative to the rule file. Its text becomes part of the rule, so that a rule stays
what it was until all its files load, and an edit of a template is an edit of the rule. Read `MailReader` first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config.addresses import is_address
from engine.config.matchers import as_tuple
from engine.config.schema import did_you_mean
from engine.config.yamlfile import Document, KeyPath
from engine.errors import Problem
from engine.templates.email import SHIPPED
from engine.templates.lint import ANYTHING, Names, template_problems
from engine.templates.renderer import MAX_TEMPLATE_CHARACTERS, Renderer, TemplateProblem, check_source

SUFFIX = ".j2"
"""What the name of a template file ends in."""

_RECIPIENTS = "; recipients are made of client.attributes, alert.key and rule only"
_RENDERER = Renderer()


@dataclass(frozen=True, slots=True)
class _Origin:
    """The file that a template was read from."""

    file: Path
    key: str


class MailReader:
    """Reads the e-mails of one rule at `at`; says what is wrong in `problems`.

    `checked`: False for a stored rule, whose files may be gone. `lacks_smtp`: there is no server to send by.
    """

    def __init__(
        self, document: Document, at: KeyPath, problems: list[Problem], *, checked: bool, lacks_smtp: bool = False
    ) -> None:
        self._document = document
        self._at = at
        self._problems = problems
        self._checked = checked
        self._lacks_smtp = lacks_smtp
        self._origins: dict[KeyPath, _Origin] = {}

    def with_files(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rule with the text of its template files in place of their names; problems for those that cannot be read."""
        found = dict(entry)
        for key in ("actions", "on_recovery"):
            if any("email" in action for action in entry.get(key, ())):
                found[key] = [
                    {"email": self._inlined(action["email"], (key, index, "email"))} if "email" in action else action
                    for index, action in enumerate(entry[key])
                ]
        return found

    def _inlined(self, written: Mapping[str, Any], at: KeyPath) -> dict[str, Any]:
        found = dict(written)
        if _is_file(found.get("template", "")):
            name = found.pop("template")
            found["text"] = self._read_file(name, (*at, "text"), (*at, "template"))
        if _is_file(found.get("html", "")):
            found["html"] = self._read_file(found["html"], (*at, "html"), (*at, "html"))
        return found

    def _read_file(self, name: str, part: KeyPath, at: KeyPath) -> str:
        path = Path(self._document.file).parent / name
        self._origins[part] = _Origin(path, str(at[-1]))
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MAX_TEMPLATE_CHARACTERS + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._say(at, f"the template {path} cannot be read: {reason}")
            return ""
        if not text.strip():
            self._say(at, f"the template {path} is empty")
        return text

    def read(self, written: Mapping[str, Any], at: KeyPath, names: Names) -> dict[str, Any]:
        """The action's mapping as rendering takes it: lists of recipients, templates as their text."""
        spec: dict[str, Any] = dict(written)
        for part in ("to", "cc"):
            if part in spec:
                spec[part] = as_tuple(spec[part])
                self._check_recipients(spec[part], (*at, part), isinstance(written[part], str), names)
        if not self._checked:
            return spec
        if self._lacks_smtp:
            message = "needs a server to send by: `smtp: {host: ..., from: ...}` in the configuration"
            self._say(at, message, at_key=True)
        if "template" in spec and spec["template"] not in SHIPPED:
            hint = did_you_mean(spec["template"], SHIPPED, all_of_them=True)
            self._say(
                (*at, "template"), f"is neither a file that ends in {SUFFIX} nor a template that is shipped{hint}"
            )
        for part in ("subject", "text", "html"):
            if part in spec:
                self._check_template(spec[part], (*at, part), names, html=part == "html")
        return spec

    def _check_recipients(self, entries: tuple[str, ...], at: KeyPath, alone: bool, names: Names) -> None:
        if not self._checked:
            return
        for index, source in enumerate(entries):
            place = at if alone else (*at, index)
            if "{" not in source:
                if not is_address(source):
                    hint = ": write a list for several" if re.search("[,;]", source) else ""
                    self._say(place, f"`{source[:80]}` is no e-mail address such as ops@example.com{hint}")
                continue
            for message in template_problems(source, recipient_names(names)):
                hint = "" if "did you mean" in message else _RECIPIENTS
                self._say(place, message + hint)

    def _check_template(self, source: str, at: KeyPath, names: Names, *, html: bool) -> None:
        found = list(template_problems(source, names)) if "{" in source else []
        if not found:
            try:
                check_source(source)
                _RENDERER.html(source) if html else _RENDERER.text(source)
            except TemplateProblem as error:
                found = [f"is no template that can be read: {error}"]
            except (RecursionError, SyntaxError, MemoryError):
                found = ["is nested too deeply"]
        for message in found:
            self._tell(message, source, at)

    def _tell(self, message: str, source: str, at: KeyPath) -> None:
        """A mistake in a template, at its line where it is a file's."""
        origin = self._origins.get(at)
        if origin is None:
            self._say(at, message)
            return
        path = self._document.problem((*self._at, *at[:-1], origin.key), "").path
        line = _line_of(message, source)
        self._problems.append(Problem(file=str(origin.file), line=line, column=1, path=path, message=message))

    def _say(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        self._problems.append(self._document.problem((*self._at, *path), message, at_key=at_key))


def _is_file(text: str) -> bool:
    return text.endswith(SUFFIX) and not re.search(r"[{}<>\n]", text)


def _line_of(message: str, source: str) -> int:
    """The line of a template that a message is about: the one it names, or the first that holds the name it quotes."""
    told = re.search(r"\bline (\d+)\b", message)
    if told is not None:
        return int(told[1])
    quoted = re.search(r"`([^`]+)`", message)
    at = source.find(quoted[1]) if quoted is not None else -1
    return source.count("\n", 0, at) + 1 if at > 0 else 1


@lru_cache(maxsize=1_000)
def recipient_names(names: Names) -> Names:
    """The names that templates in recipients may read, of those that the rule's other templates may."""
    client = names.variables.get("client")
    attributes = client["attributes"] if isinstance(client, dict) else ANYTHING
    known = {"alert": {"key": ANYTHING}, "rule": names.variables["rule"]}
    if client is not None:
        known["client"] = {"attributes": attributes}
    return Names(variables=known)
