"""Secrets of the configuration: where each one is kept, never its value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from engine.config.regular_file import UnreadableFile, read_regular_file, shown_path
from engine.errors import RollcallError

MAX_SECRET_BYTES = 64 * 1024

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")


class Secret:
    """Where a secret is kept: an environment variable or a file. Prints as `***`; only `reveal` reads the value.

    Of the kind `text` it is the value itself, as it stands in the configuration.
    """

    __slots__ = ("_kind", "_where")

    def __init__(self, kind: str, where: str) -> None:
        self._kind, self._where = kind, where

    def reveal(self) -> str:
        """The value, read now from the environment or the file. Raises RollcallError when it cannot be read."""
        if self._kind == "text":
            return self._where
        where = self._named()
        if self._kind == "env":
            if self._where not in os.environ:
                raise RollcallError(f"{where} is not set")
            return _value(os.environ[self._where], where)
        try:
            content = read_regular_file(Path(self._where), MAX_SECRET_BYTES)
            return _value(content.decode("utf-8-sig"), where)
        except UnreadableFile as error:
            raise RollcallError(f"{where} {error}") from error
        except UnicodeDecodeError:
            raise RollcallError(f"{where} is not UTF-8 text") from None

    def problem(self) -> str | None:
        """Why the value cannot be read now; None when it can."""
        try:
            self.reveal()
        except RollcallError as error:
            return str(error)
        return None

    def remark(self) -> str | None:
        """Why the value probably is not the secret that is meant; None when nothing is wrong with it. It says nothing of the value."""
        try:
            value = self.reveal()
        except RollcallError as error:
            return str(error)
        if value != value.strip():
            return f"{self._named()} begins or ends with a space, which is part of the secret"
        if _CONTROL.search(value):
            return f"{self._named()} has more than one line or a control character: it must hold the secret alone"
        return None

    def _named(self) -> str:
        if self._kind == "text":
            return "the value"
        return (
            f"the environment variable {self._where}"
            if self._kind == "env"
            else f"the secret file {shown_path(self._where)}"
        )

    def __eq__(self, other: object) -> bool:
        """Whether it is the same place: the values are not compared."""
        return isinstance(other, Secret) and (self._kind, self._where) == (other._kind, other._where)

    def __hash__(self) -> int:
        return hash((self._kind, self._where))

    def __repr__(self) -> str:
        return "***"


def _value(text: str, where: str) -> str:
    """A secret without the line break at its end, which editors and `echo` add. RollcallError for one that is no text."""
    found = text.rstrip("\r\n")
    if not found.strip():
        raise RollcallError(f"{where} is empty")
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise RollcallError(f"{where} is not UTF-8 text")
    return found


def secret_from(raw: Mapping[str, str], folder: Path) -> Secret:
    """The secret of `{env: NAME}` or `{file: PATH}`; a relative path starts at `folder`."""
    if "env" in raw:
        return Secret("env", raw["env"])
    return Secret("file", str(folder / raw["file"]))
