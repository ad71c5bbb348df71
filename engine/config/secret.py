"""Secrets of the configuration: where each one is kept, never its value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import RollcallError

MAX_SECRET_BYTES = 64 * 1024


class Secret:
    """Where a secret is kept: an environment variable or a file. Prints as `***`; only `reveal` reads the value."""

    __slots__ = ("_kind", "_where")

    def __init__(self, kind: str, where: str) -> None:
        self._kind, self._where = kind, where

    def reveal(self) -> str:
        """The value, read now from the environment or the file. Raises RollcallError when it cannot be read."""
        if self._kind == "env":
            found = os.environ.get(self._where)
            if not found:
                raise RollcallError(f"the environment variable {self._where} is not set")
            return found
        try:
            with open(self._where, encoding="utf-8") as file:
                return file.read(MAX_SECRET_BYTES).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RollcallError(f"the secret file {self._where} cannot be read: {error}") from error

    def problem(self) -> str | None:
        """Why the value cannot be read now; None when it can."""
        try:
            self.reveal()
        except RollcallError as error:
            return str(error)
        return None

    def __repr__(self) -> str:
        return "***"


def secret_from(raw: Mapping[str, str], folder: Path) -> Secret:
    """The secret of `{env: NAME}` or `{file: PATH}`; a relative path starts at `folder`."""
    if "env" in raw:
        return Secret("env", raw["env"])
    return Secret("file", str(folder / raw["file"]))
