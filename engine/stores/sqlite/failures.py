"""Errors of SQLite become `StoreError` here."""

from __future__ import annotations

import sqlite3

from engine.errors import StoreError
from engine.stores.error_translation import COMMIT_FAILED, READ_FAILED, Translation

__all__ = ["COMMIT_FAILED", "READ_FAILED", "store_errors", "translated"]


def _explain(what: str, error: sqlite3.Error) -> StoreError:
    return StoreError(f"{what}: {error}")


_TRANSLATION = Translation(sqlite3.Error, _explain)

store_errors = _TRANSLATION.store_errors
translated = _TRANSLATION.translated
