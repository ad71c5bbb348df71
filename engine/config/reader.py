"""Reads values out of a configuration document that fits its schema, and reports what a schema cannot check.

Each section of the configuration has a module with its values and one `read_…` function; every such function is given a
`ConfigReader`. A value that cannot be read is reported and replaced by any valid value, so that one run reports every mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engine.config.durations import parse_duration
from engine.config.endpoints import host_and_port
from engine.config.paths import path_problem
from engine.config.regular_file import (
    MAX_CERTIFICATES_BYTES,
    UnreadableFile,
    file_problem,
    read_regular_file,
    shown_path,
)
from engine.config.secret import Secret, secret_from
from engine.config.yamlfile import Document, KeyPath
from engine.core.times import EPOCH
from engine.errors import Problem

LAST_MS = 7_258_118_400_000
"""2200-01-01T00:00:00Z: a later time is a typing error."""

MAY_BE_ZERO = frozenset({"max_future", "clock_skew", "offline", "online", "max_hold"})
"""Durations for which 0 is a meaningful value."""


class ConfigReader:
    """A document, the folder that its relative paths start at, and the list that problems are added to."""

    def __init__(self, document: Document, folder: Path, problems: list[Problem]) -> None:
        self.document = document
        self.raw: Mapping[str, Any] = document.value
        self.folder = folder
        self.problems = problems

    def report(self, path: KeyPath, message: str, *, warning: bool = False) -> None:
        """Add a problem with the value at `path`."""
        self.problems.append(self.document.problem(path, message, warning=warning))

    def duration_ms(self, path: KeyPath, text: str) -> int:
        """A duration in milliseconds. One that cannot be read, or is 0 where that has no meaning, is reported."""
        try:
            duration_ms = parse_duration(text)
        except ValueError as error:
            self.report(path, str(error))
            return 1
        if duration_ms == 0 and path[-1] not in MAY_BE_ZERO:
            self.report(path, "must be longer than 0")
        return duration_ms

    def durations(self, section: str, plain: tuple[str, ...] = ()) -> dict[str, Any]:
        """Every key of a section of durations as `KEY_ms`; the keys in `plain` unchanged."""
        found: dict[str, Any] = {}
        for key, value in (self.raw.get(section) or {}).items():
            if key in plain:
                found[key] = value
            else:
                found[f"{key}_ms"] = None if value is None else self.duration_ms((section, key), value)
        return found

    def secret(self, path: KeyPath, raw: Mapping[str, str]) -> Secret:
        """A secret. One that cannot be read now is a warning: perhaps only another command needs it."""
        if "file" in raw:
            self.path((*path, "file"), raw["file"])
        found = secret_from(raw, self.folder)
        if path_problem(raw.get("file", "")) is None and (problem := found.remark()):
            self.report(path, problem, warning=True)
        return found

    def path(self, at: KeyPath, text: str) -> Path:
        """A path as an absolute one. What is written for a shell, such as `~`, is reported."""
        if problem := path_problem(text):
            self.report(at, problem)
        return self.folder / text

    def login(self, path: KeyPath, raw: Mapping[str, Any]) -> dict[str, Secret]:
        """`access_key` and `secret` of the mapping at `path`; one without the other is reported."""
        if ("access_key" in raw) != ("secret" in raw):
            self.report(path, "`access_key` and `secret` belong together: one of them is missing")
        return {key: self.secret((*path, key), raw[key]) for key in ("access_key", "secret") if key in raw}

    def host_and_port(self, path: KeyPath, text: str, default_port: int) -> tuple[str, int]:
        """Host and port of HOST or HOST:PORT; an IPv6 address with a port stands in brackets."""
        try:
            return host_and_port(text, default_port)
        except ValueError as error:
            self.report(path, str(error))
            return "", default_port

    def check_tls_port(self, path: KeyPath, port: int, tls: bool, *, plain: int, encrypted: int) -> None:
        """Warn of a port that usually belongs to the other kind of connection."""
        if port == encrypted and not tls:
            self.report(path, f"port {port} usually expects encryption: set `tls: true`", warning=True)
        elif port == plain and tls:
            self.report(
                path, f"port {port} usually expects no encryption: use {encrypted}, or remove `tls`", warning=True
            )

    def instant_ms(self, path: KeyPath, text: str) -> int:
        """An RFC 3339 time as epoch milliseconds."""
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.report(path, f"`{text}` is not a time such as 2026-01-01T00:00:00Z")
            return 0
        if instant.tzinfo is None:
            whole = instant.isoformat()
            self.report(path, f"`{text}` has no time zone; write {whole}Z for UTC")
            return 0
        found = (instant - EPOCH) // timedelta(milliseconds=1)
        if not 0 <= found <= LAST_MS:
            self.report(path, f"`{text}` is not between 1970 and 2200")
            return 0
        return found

    def ca_file(self, at: KeyPath, tls: object) -> str | None:
        """The certificates that `tls` (at `at`) names: a path, "" for the system's, None without TLS."""
        if isinstance(tls, Mapping):
            return str(self.certificates((*at, "ca"), tls["ca"], warning=True))
        return "" if tls else None

    def certificates(self, at: KeyPath, text: str, *, warning: bool = False) -> Path:
        """The path of a file of certificates; one that cannot be read or holds none is reported."""
        found = self.path(at, text)
        problem = file_problem(found)
        if problem is None:
            try:
                content = read_regular_file(found, MAX_CERTIFICATES_BYTES)
            except UnreadableFile as error:
                problem = str(error)
            else:
                if b"-----BEGIN" not in content or b"CERTIFICATE-----" not in content:
                    problem, warning = "holds no certificate (PEM: `-----BEGIN CERTIFICATE-----`)", True
        if problem is not None and path_problem(text) is None:
            self.report(at, f"{shown_path(found)} {problem}", warning=warning)
        return found
