"""Text that must not break what it is put into: control characters, half characters, messages of errors."""

from __future__ import annotations

import re

import jinja2

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def encodable(text: str) -> str:
    """The text with `?` for each half of a surrogate pair, which cannot be stored or sent and must not stop a page."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def error_text(error: BaseException) -> str:
    """The message of an error, short and on one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError) and error.lineno > 1:
        text = f"{error.message} (line {error.lineno})"
    return CONTROL.sub(" ", text)[:300]
