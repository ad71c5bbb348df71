r"""Keeps secrets out of texts that people will read, however a neighbour repeats them. Read `Scrubber.__call__`.

A server that is given a token may send it back: as it is, encoded as it came, or in the encoding of its own page. What stands in a text
as it was sent is replaced by `***`. What is recognizable only after decoding (base64 at any of its three alignments, hexadecimal,
`%2f`, `\/`, `\u0041`, entities of HTML, quoted-printable, lists of numbers, a secret that is split over lines) costs the whole text: when in doubt, no
text is kept.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote

from engine.core.foreign_text import foreign_text

IN_PATH: Final = "/:@!$&'()*+,;=-._~"
"""Left as they are in a secret that stands in a URL's path: a secret may be several segments of it."""

SHORTEST_SCRUBBED: Final = 4
"""Secrets below this length (characters) would blank out ordinary words, and hide nothing."""

SHORTEST_SPLIT: Final = 8
"""Letters and digits that a secret, or half of one, must have to be looked for where everything else was taken out."""

DECODINGS: Final = 2
"""Rounds of decoding: an escape may stand in a JSON document in base64."""

MAX_VIEWS: Final = 32
"""Ways to read a text at most. Ordinary pages have about ten; what has more was made to have them, and is not shown."""

LONGEST_READ: Final = 1_000
"""Characters of a text that are looked at in all these ways, and at most shown: it costs the event loop its time."""

MAX_CODE: Final = 0x10FFFF
"""The last character of Unicode."""

WITHHELD: Final = "(text not shown: it repeats a secret)"

_ESCAPE: Final = re.compile(
    r"\\u([0-9a-fA-F]{4})|\\u\{([0-9a-fA-F]{1,6})\}|\\x([0-9a-fA-F]{2})|\\U([0-9a-fA-F]{8})|\\([0-7]{3})|\\[abfnrtv]|\\(.)",
    re.DOTALL,
)
_QUOTED: Final = re.compile(r"=([0-9a-fA-F]{2})|=\r?\n")
_NOT_ALNUM: Final = re.compile(r"[\W_]+")
_SPACES: Final = re.compile(r"[\s\x00-\x20\x7f-\xa0\u200b-\u200f\u2028\u2029\ufeff\"'`,;|>]+")
_HEX_MARKS: Final = re.compile(r"(?:0x|\\x|%|=|[\s:,;.\-_\[\]{}()\"'])+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_NUMBER_MARKS: Final = re.compile(r"[^0-9]+")


class _TooManyViews(Exception):
    """A text can be read in so many ways that it is not worth showing."""


class Scrubber:
    """Takes secrets out of texts, in every form in which a request may carry them and a neighbour may repeat them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        words = [word for word in dict.fromkeys(secrets) if len(word) >= SHORTEST_SCRUBBED]
        words += [inner for word in words for inner in _inner(word)]
        sent = {*words, *(quote(word, safe="") for word in words), *(quote(word, safe=IN_PATH) for word in words)}
        # The longest first: a secret may contain another.
        pattern = "|".join(re.escape(form) for form in sorted(sent, key=len, reverse=True))
        self._sent = re.compile(pattern) if pattern else None
        self._words = _Forms([*words, *(_SPACES.sub("", word) for word in words)])
        self._solid = _Forms([solid for word in words for solid in _solid(word)])
        self._base64 = _Forms([form for word in words for form in _base64_forms(word.encode())])
        self._hex = _Forms([word.encode().hex() for word in words])
        self._numbers = _Forms([f" {' '.join(map(str, word.encode()))} " for word in words])

    def __call__(self, text: str) -> str:
        """`text` with `***` for every secret; or a note in its place, when it repeats one in another form."""
        if self._sent is None:
            return text
        text = self._sent.sub("***", text[:LONGEST_READ])
        try:
            return WITHHELD if self._is_repeated(text) else text
        except _TooManyViews:
            return WITHHELD

    def shown(self, said: bytes | str, limit: int) -> str:
        """What a neighbour said, without secrets, as one line that can be stored and shown: at most `limit` characters."""
        text = said[: 4 * LONGEST_READ].decode("utf-8", "backslashreplace") if isinstance(said, bytes) else said
        return foreign_text(self(" ".join(text[: 4 * LONGEST_READ].split())), limit)

    def _is_repeated(self, text: str) -> bool:
        """Whether a secret stands in a text in another form than as it was sent."""
        for view in _views(text):
            bare = _SPACES.sub("", view)
            if (
                self._words.are_in(view)
                or self._words.are_in(bare)
                or self._solid.are_in(_NOT_ALNUM.sub("", view).casefold())
                or self._base64.are_in(_NOT_ALNUM.sub("", bare))
                or self._hex.are_in(_HEX_MARKS.sub("", view).lower())
                or self._numbers.are_in(f" {_NUMBER_MARKS.sub(' ', view)} ")
            ):
                return True
        return False


class _Forms:
    """Texts to be found in another; many of them cost hardly more than one."""

    def __init__(self, forms: Iterable[str]) -> None:
        self._by_start: dict[str, list[str]] = {}
        for form in dict.fromkeys(forms):
            if len(form) >= SHORTEST_SCRUBBED:
                self._by_start.setdefault(form[:SHORTEST_SCRUBBED], []).append(form)

    def are_in(self, text: str) -> bool:
        """Whether any of them stands in `text`."""
        here = {text[at : at + SHORTEST_SCRUBBED] for at in range(len(text) - SHORTEST_SCRUBBED + 1)}
        return any(form in text for start in self._by_start.keys() & here for form in self._by_start[start])


def _views(text: str) -> Iterator[str]:
    """The text, and what it becomes when it is decoded once and twice."""
    seen = {text}
    layer = [text]
    for _ in range(DECODINGS + 1):
        yield from layer
        decoded = dict.fromkeys(new for one in layer for new in _decoded(one))
        layer = [new for new in decoded if new not in seen]
        seen.update(layer)
        if len(seen) > MAX_VIEWS:
            raise _TooManyViews


def _decoded(text: str) -> Iterator[str]:
    """What a text becomes in each encoding, one round of it."""
    if "%" in text:
        yield unquote(text, errors="replace")
    if "&" in text:
        yield html.unescape(text)
    if "\\" in text:
        yield _ESCAPE.sub(_escaped, text)
    if "=" in text:
        yield _QUOTED.sub(lambda found: chr(int(found[1] or "0", 16)) if found[1] else "", text)
    runs = _BASE64.findall(_SPACES.sub("", text))
    if runs:
        for at in range(4):
            yield " ".join(_from_base64(run[at:]) for run in runs)


def _escaped(found: re.Match[str]) -> str:
    """What an escape stands for; nothing for one that only breaks a line."""
    octal, itself = found[5], found[6]
    if octal is not None:
        return chr(int(octal, 8))
    code = found[1] or found[2] or found[3] or found[4]
    if code is None:
        return itself or ""  # `\\/` is `/`
    return chr(int(code, 16)) if int(code, 16) <= MAX_CODE else ""


def _from_base64(run: str) -> str:
    standard = run.replace("-", "+").replace("_", "/")
    return base64.b64decode(standard[: len(standard) // 4 * 4]).decode("utf-8", "replace")


def _solid(word: str) -> list[str]:
    """A secret without whatever may be put into it or changed in it, and its halves: an answer may be cut off inside one."""
    solid = _NOT_ALNUM.sub("", word).casefold()
    half = max(SHORTEST_SPLIT, (len(solid) + 1) // 2)
    return list(dict.fromkeys((solid, solid[:half], solid[-half:]))) if len(solid) >= SHORTEST_SPLIT else []


def _base64_forms(raw: bytes) -> list[str]:
    """What is the same in base64 whatever stands before and after `raw`, at each alignment; letters and digits alone."""
    forms = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        # The first characters hold bits of what stands before, the last one bits of what follows.
        first = (0, 2, 3)[before]
        last = len(whole) if (before + len(raw)) % 3 == 0 else len(whole) - 1
        form = _NOT_ALNUM.sub("", whole[first:last])
        if len(form) >= SHORTEST_SCRUBBED:
            forms.append(form)
    return forms


def _inner(word: str) -> list[str]:
    """What a secret holds that is itself encoded: `Basic dXNlcjpwYXNz` is a name and a password."""
    found = []
    for part in word.split():
        try:
            text = base64.b64decode(part + "=" * (-len(part) % 4), validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        if text.isprintable() and ":" in text:
            found += [text, text.partition(":")[2]]
    return [text for text in found if len(text) >= SHORTEST_SCRUBBED]
