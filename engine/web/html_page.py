"""Pages for people, rendered on the server, with nothing loaded from elsewhere and no script.

Everything on them may come from devices, so the templates escape it; should that ever fail, the content security policy lets the browser run
no script, load nothing, and send forms to nobody but this service. Read `html_response`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.responses import Response

from engine.core.foreign_text import visible_text
from engine.core.times import duration_text
from engine.stores.base import TOTALS_STOP

_UNITS = re.compile(r"\d+[a-z]+(\d+[a-z]+)?")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def age(seconds: float | None) -> str:
    """Seconds as a duration of at most two units: `2h5m`. None, not known, is a dash."""
    if seconds is None:
        return "–"
    found = _UNITS.match(duration_text(int(seconds) * 1000))
    return found[0] if found else "–"


def _source(name: str) -> str:
    return (resources.files("engine.web") / "templates" / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["count"] = lambda number: f"{number:,}" + ("+" if number == TOTALS_STOP else "")
    found.filters["plain"] = lambda value: "–" if value is None else visible_text(str(value))
    found.filters["age"] = age
    return found


@cache
def _policy() -> str:
    """The content security policy: it allows the style of the pages, forms of this service, and nothing else."""
    found = _STYLE.search(_source("layout.html"))
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def html_response(template: str, shown: Mapping[str, Any], status: int = 200) -> Response:
    """A page with its headers; `template` is the name of a file in `templates`."""
    headers = {
        "Content-Security-Policy": _policy(),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # Other sites learn nothing. With `no-referrer` a browser would not say that a form comes from here.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return Response(_environment().get_template(template).render(shown), status, headers, media_type="text/html")
