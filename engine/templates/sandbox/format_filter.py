"""The filter `format`: `"%-10s %d"|format(name, count)`, each field read and limited before Python fills it in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jinja2

from engine.templates.sandbox.meter import MAX_TEXT, METER, LimitExceeded, refuse_text
from engine.templates.sandbox.operations import plain_text

MAX_PADDING = 999
"""Widest field, and most digits after a point."""

_FIELD = re.compile(
    r"%(?:\((?P<name>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\d*)(?:\.(?P<digits>\d*))?(?P<kind>.?)", re.DOTALL
)
_KINDS = frozenset("diouxXeEfFgGcrsa%")


def formatted(value: Any, *args: Any, **kwargs: Any) -> str:
    """The text with each field replaced by its value, in order or by name."""
    if args and kwargs:
        raise jinja2.TemplateRuntimeError("`format` takes values in order or by name, not both")
    text, given = plain_text(str(value)), iter(args)
    parts, length, at, seen = [], 0, 0, 0
    for field in _FIELD.finditer(text):
        filled = _filled(field, given, kwargs)
        seen += field["kind"] != "%" and field["name"] is None
        parts += [text[at : field.start()], filled]
        length += len(filled) + field.start() - at
        if length > MAX_TEXT:
            refuse_text()
        at = field.end()
    if not kwargs and seen < len(args):
        raise TypeError("not all arguments converted during string formatting")
    return "".join([*parts, text[at:]])


def _filled(field: re.Match[str], given: Iterator[Any], named: dict[str, Any]) -> str:
    kind, name, width, digits = field["kind"], field["name"], field["width"], field["digits"]
    if kind not in _KINDS or not kind:
        raise LimitExceeded(f"`format` does not know the field `{field[0][:20]}`: at most %s, %d, %5.1f or %(name)s")
    if any(number and (len(number) > 4 or int(number) > MAX_PADDING) for number in (width, digits)):
        raise LimitExceeded(f"`format` pads to {MAX_PADDING} characters at most")
    METER.spend(1)
    if kind == "%":
        return "%"
    value = named[name] if name is not None else next(given, jinja2.Undefined)
    if value is jinja2.Undefined:
        raise TypeError("not enough arguments for format string")
    METER.charge(value)
    spec = f"%{field['flags']}{width}{'.' + digits if digits is not None else ''}{kind}"
    return spec % (plain_text(value) if isinstance(value, str) else (value,))
