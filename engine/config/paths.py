"""Paths as people write them: what a shell would have replaced and this program does not."""

from __future__ import annotations

import re
from typing import Final

MAX_NAME_BYTES: Final = 255
"""Longest name of a file or folder that file systems take."""

_VARIABLE: Final = re.compile(r"\$(?:\{[A-Za-z_]\w*[^}]*\}|[A-Za-z_]\w*)|%[A-Za-z_]\w*%")


def path_problem(text: str) -> str | None:
    """Why a path cannot be meant as it is written, as a sentence without subject; None when nothing is wrong with it."""
    if text.startswith("~"):
        return f"begins with `~`, which is not replaced here: write the whole path, not `{text[:80]}`"
    if (found := _VARIABLE.search(text)) is not None:
        return f"contains `{found[0][:40]}`, and variables are not replaced here: write the whole path"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return f"must be a path, not a URL: `{text[:80]}`"
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return "contains a control character"
    if text != text.strip():
        return "begins or ends with a space"
    if any(len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for name in text.split("/")):
        return f"contains a name of more than {MAX_NAME_BYTES} bytes, which no file can have"
    return None
