"""The parameters that every list of the HTTP interface takes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from engine.web.answers import MAX_LIMIT

Limit = Annotated[int, Query(ge=1, description=f"Items wanted; at most {MAX_LIMIT} come at once.")]
Cursor = Annotated[str, Query(description="The `next` of the page before.")]
