"""Pages for people, rendered on the server, with nothing loaded from elsewhere.

Everything on them may come from devices, so the templates escape it; should that ever fail, the content security policy lets the browser run
only the scripts of `assets/`, load nothing from elsewhere, and send forms to nobody but this service. Read `html_response`.

A page is readable without scripts. Its block `live` is what changes: `live_part` renders it alone, for `web.live`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

from engine.core.foreign_text import visible_json, visible_text
from engine.stores.base import TOTALS_STOP
from engine.web import asset_files, page_times

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The content security policy of every page."""


def _source(name: str) -> str:
    return (resources.files("engine.web") / "templates" / name).read_text("utf-8")


def plain(value: object) -> str:
    """Text from outside, on one line, with escapes for what cannot be seen. None is a dash."""
    return "–" if value is None else visible_text(str(value))


def identifier(value: object) -> Markup:
    """An id or a name that somebody chose: as `plain`, and isolated, so that its reading direction does not turn what is around it."""
    return Markup("<bdi>{}</bdi>").format(escape(plain(value)))


def readable(value: object) -> str:
    """A JSON object with its keys below one another; what cannot be seen is escaped."""
    return visible_json(json.dumps(value, ensure_ascii=False, indent=2))


def counted(number: int, one: str = "", many: str = "") -> str:
    """A number with its word: `1,204 clients`; `+` where counting has stopped."""
    text = f"{number:,}" + ("+" if number == TOTALS_STOP else "")
    return f"{text} {one if number == 1 else many or one + 's'}" if one else text


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {
        "count": counted,
        "plain": plain,
        "id": identifier,
        "readable": readable,
        "age": page_times.age,
        "words": lambda text: page_times.with_times(plain(text)),
        "time": page_times.time_element,
        "since": page_times.since,
    }
    found.globals["asset"] = asset_files.address_of
    # Macros are there in every block, also in one that is rendered alone.
    found.globals["ui"] = found.get_template("ui.html").module
    return found


def rendered(template: str, shown: Mapping[str, Any]) -> str:
    """A page as text; `template` is the name of a file in `templates`."""
    return _environment().get_template(template).render(shown)


def live_part(template: str, shown: Mapping[str, Any]) -> str:
    """What changes of a page, as text: its block `live`; empty for a page that has none."""
    found = _environment().get_template(template)
    block = found.blocks.get("live")
    return "" if block is None else "".join(block(found.new_context(dict(shown))))


def html_response(template: str, shown: Mapping[str, Any], status: int = 200) -> Response:
    """A page with its headers."""
    return with_headers(rendered(template, shown), status)


def with_headers(text: str, status: int = 200) -> Response:
    """Text of a page, or of a part of one, with the headers that keep a browser to it."""
    headers = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # Other sites learn nothing. With `no-referrer` a browser would not say that a form comes from here.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return Response(text, status, headers, media_type="text/html")
