"""Reads the `email` action of a rule: recipients, subject, and templates that are files of their own.

A template file ends in `.j2` and is named relative to the rule file. Its text becomes part of the rule: a rule does not change
until all its files load, and an edit of a template is an edit of the rule. Read `MailReader` first.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config.addresses import is_address
from engine.config.matchers import as_tuple
from engine.config.regular_file import UnreadableFile, read_regular_file, shown_path
from engine.config.schema import did_you_mean
from engine.config.yamlfile import NUL_IN_TEXT, KeyPath, not_utf8, problem_in
from engine.rulefiles.context import RuleContext
from engine.rulefiles.template_checks import compile_problem
from engine.templates.breakouts import HTML, breakout_warnings
from engine.templates.compiler import MAX_TEMPLATE_CHARACTERS, TemplateProblem, check_source
from engine.templates.email import SHIPPED
from engine.templates.lint import template_problems
from engine.templates.names import ANYTHING, Names

SUFFIX = ".j2"
"""How the name of a template file ends."""

MAX_BYTES_PER_CHARACTER = 4
"""Most bytes of a character in UTF-8."""

_RECIPIENTS = "; recipients can use client.attributes, alert.key and rule only"


@dataclass(frozen=True, slots=True)
class _Origin:
    """The file that a template was read from."""

    file: Path
    key: str


class MailReader:
    """Reads the e-mails of one rule."""

    def __init__(self, context: RuleContext) -> None:
        self._context = context
        self._report = context.report
        self._origins: dict[KeyPath, _Origin] = {}

    def with_files(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rule with the text of its template files in place of their names; a file that cannot be read is reported."""
        found = self._with_files(entry, ())
        if "escalate" in found:
            found["escalate"] = [
                self._with_files(step, ("escalate", index)) for index, step in enumerate(entry["escalate"])
            ]
        return found

    def _with_files(self, holder: Mapping[str, Any], at: KeyPath) -> dict[str, Any]:
        """The same for what holds actions, a rule or one of its steps."""
        found = dict(holder)
        for key in ("actions", "on_recovery"):
            if any("email" in action for action in holder.get(key, ())):
                found[key] = [
                    {"email": self._inlined(action["email"], (*at, key, index, "email"))}
                    if "email" in action
                    else action
                    for index, action in enumerate(holder[key])
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
        path = self._context.document.path.parent / name
        self._origins[part] = _Origin(path, str(at[-1]))
        inside = self._context.folders or (self._context.document.path.parent,)
        try:
            content = read_regular_file(path, MAX_TEMPLATE_CHARACTERS * MAX_BYTES_PER_CHARACTER, inside=inside)
            text = io.StringIO(content.decode("utf-8-sig"), newline=None).read()  # line ends of any system
        except UnreadableFile as error:
            self._report(at, f"the template {shown_path(path)} {error}")
            return ""
        except UnicodeDecodeError:
            self._report(at, f"the template {shown_path(path)} {not_utf8(content)}")
            return ""
        if "\0" in text:
            self._report(at, f"the template {shown_path(path)} {NUL_IN_TEXT}")
        if not text.strip():
            self._report(at, f"the template {shown_path(path)} is empty")
        return text

    def read(self, written: Mapping[str, Any], at: KeyPath, names: Names) -> dict[str, Any]:
        """The action as rendering takes it: recipients as lists, templates as their text. Mistakes are reported."""
        spec: dict[str, Any] = dict(written)
        for part in ("to", "cc"):
            if part in spec:
                spec[part] = as_tuple(spec[part])
                self._check_recipients(spec[part], (*at, part), isinstance(written[part], str), names)
        if self._context.is_stored:
            return spec
        config = self._context.config
        if self._context.performs and config is not None and config.smtp is None:
            message = "needs a mail server: set `smtp: {host: ..., from: ...}` in the configuration"
            self._report(at, message, at_key=True)
        if "template" in spec and spec["template"] not in SHIPPED:
            hint = did_you_mean(spec["template"], SHIPPED, all_of_them=True)
            message = f"is neither a file that ends in {SUFFIX} nor a shipped template{hint}"
            self._report((*at, "template"), message)
        for part in ("subject", "text", "html"):
            if part in spec:
                self._check_template(spec[part], (*at, part), names, html=part == "html")
        return spec

    def _check_recipients(self, entries: tuple[str, ...], at: KeyPath, alone: bool, names: Names) -> None:
        """Report every entry that can never be an address. `alone`: it stands in the file without a list around it."""
        if self._context.is_stored:
            return
        for index, source in enumerate(entries):
            place = at if alone else (*at, index)
            if "{" not in source:
                if not is_address(source):
                    hint = ": write a list for several" if re.search("[,;]", source) else ""
                    self._report(place, f"`{source[:80]}` is not an e-mail address such as ops@example.com{hint}")
                continue
            for message in template_problems(source, recipient_names(names)):
                hint = "" if "did you mean" in message else _RECIPIENTS
                self._report(place, message + hint)

    def _check_template(self, source: str, at: KeyPath, names: Names, *, html: bool) -> None:
        found = list(template_problems(source, names)) if "{" in source else []
        if not found and (problem := _source_problem(source) or compile_problem(source, html=html)) is not None:
            found = [problem]
        for message in found:
            self._report_in_template(message, source, at)
        for message in breakout_warnings(source, HTML) if html and not found else ():
            self._report_in_template(message, source, at, warning=True)

    def _report_in_template(self, message: str, source: str, at: KeyPath, *, warning: bool = False) -> None:
        """Report a mistake in a template: on its line when the template is a file of its own."""
        origin = self._origins.get(at)
        if origin is None:
            self._report(at, message, warning=warning)
            return
        path = self._context.document.problem(self._context.place((*at[:-1], origin.key)), "").path
        line = _line_of(message, source)
        self._context.problems.append(problem_in(shown_path(origin.file), line, message, path=path, warning=warning))


def _source_problem(source: str) -> str | None:
    try:
        check_source(source)
    except TemplateProblem as error:
        return f"is not a valid template: {error}"
    return None


def _is_file(text: str) -> bool:
    return text.endswith(SUFFIX) and not re.search(r"[{}<>\n]", text)


def _line_of(message: str, source: str) -> int:
    """The line of a template that a message is about: the one it names, or the first that holds the name it quotes."""
    named = re.search(r"\bline (\d+)\b", message)
    if named is not None:
        return int(named[1])
    quoted = re.search(r"`([^`]+)`", message)
    at = source.find(quoted[1]) if quoted is not None else -1
    return source.count("\n", 0, at) + 1 if at > 0 else 1


@lru_cache(maxsize=1_000)
def recipient_names(names: Names) -> Names:
    """What templates of recipients may read, out of what the rule's other templates may."""
    client = names.variables.get("client")
    attributes = client["attributes"] if isinstance(client, dict) else ANYTHING
    known = {"alert": {"key": ANYTHING}, "rule": names.variables["rule"]}
    if client is not None:
        known["client"] = {"attributes": attributes}
    return Names(variables=known)
