"""The SQL of this folder."""

from __future__ import annotations

from functools import partial
from typing import Final

from engine.stores import sql_files

PACKAGE: Final = "engine.stores.sqlite"

queries = partial(sql_files.queries, PACKAGE)
script = partial(sql_files.script, PACKAGE)
migrations = partial(sql_files.migrations, PACKAGE)
