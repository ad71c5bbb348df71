"""A bad webhook receiver: `http://127.0.0.1:PORT/NAME` misbehaves as `BEHAVIOURS[NAME]` says. `/good` answers 200, `/held` never answers.

`python -m tests.hostile.receiver` prints the port. `GET /met` says how many requests each name has met, as JSON.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.hostile.serving import Line, serve

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TOKEN = re.compile(r"\r\nauthorization: *(?:bearer +)?([^\r\n]+)", re.IGNORECASE)
MET: Counter[str] = Counter()

PAGE = b"<html>the server is being repaired</html>"
BOMB = gzip.compress(b"all work and no play " * 5_000_000, 1, mtime=0)
CHUNKED = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(status: int | bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """A whole answer with its length."""
    code = status if isinstance(status, bytes) else b"%03d" % status
    head = b"".join(line + b"\r\n" for line in (*lines, b"Content-Length: %d" % len(body)))
    return b"HTTP/1.1 " + code + b" X\r\n" + head + b"\r\n" + body


def says(data: bytes) -> Callable[[Line], None]:
    """It says this, and the connection ends."""
    return lambda line: line.say(data)


def begins(data: bytes, then: Callable[[Line], None]) -> Callable[[Line], None]:
    """It says this, and goes on in another way."""

    def go(line: Line) -> None:
        line.say(data)
        then(line)

    return go


def floods(unit: bytes) -> Callable[[Line], None]:
    return lambda line: line.flood(unit)


def drips(data: bytes) -> Callable[[Line], None]:
    return lambda line: line.drip(data)


def interim(status: int) -> bytes:
    return b"HTTP/1.1 %d Wait\r\n\r\n" % status


BEHAVIOURS: dict[str, Callable[[Line], None]] = {
    # without end, before any answer
    "100-endless": floods(interim(100)),
    "102-endless": floods(interim(102)),
    "103-endless": floods(interim(103)),
    "103-dripping": drips(interim(103)),
    "103-in-packets": lambda line: line.packets(interim(103)),
    "103-large": floods(b"HTTP/1.1 103 Wait\r\n" + b"Link: " + b"x" * 4000 + b"\r\n\r\n"),
    "head-dripping": begins(b"HTTP/1.1 200 OK\r\nX: ", drips(b"x")),
    "header-giant": begins(b"HTTP/1.1 200 OK\r\nX: ", floods(b"x")),
    "headers-endless": begins(b"HTTP/1.1 200 OK\r\n", floods(b"X-Y: z\r\n")),
    "status-line-endless": begins(b"HTTP/1.1 200 ", floods(b"O")),
    "folded-endless": begins(b"HTTP/1.1 200 OK\r\nX: y\r\n", floods(b" z\r\n")),
    "blank-endless": floods(b"\r\n"),
    "silent": Line.hold,
    "garbage-endless": floods(bytes(range(256))),
    # none of HTTP's answers
    "101-upgrade": says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "101-flooding": begins(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", floods(b"\x81\x01x")
    ),
    "101-bare": says(answer(101)),
    "000": says(answer(b"000")),
    "099": says(answer(b"099")),
    "600": says(answer(600)),
    "999": says(answer(999)),
    "1000": says(answer(b"1000")),
    "20": says(answer(b"20")),
    "2xx": says(answer(b"2xx")),
    "banner": says(b"220 mail.test ESMTP\r\n"),
    "http-0.9": says(b"<html>hello</html>"),
    "negative-length": says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "closes": lambda line: None,
    "resets": Line.reset,
    "half-a-head": says(b"HTTP/1.1 200 OK\r\nContent-Le"),
    # taken, whatever the body does
    "200-broken-chunks": says(CHUNKED % 200 + b"5\r\nhello\r\nzz\r\n"),
    "200-wrong-gzip": says(answer(200, b"this is not gzip", b"Content-Encoding: gzip")),
    "200-short": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
    "200-reset": begins(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", Line.reset),
    "200-endless": begins(b"HTTP/1.1 200 OK\r\n\r\n", floods(b"x")),
    "200-chunks-endless": begins(CHUNKED % 200, floods(b"1\r\nx\r\n")),
    "200-extension-endless": begins(CHUNKED % 200 + b"1;", floods(b"x")),
    "200-trailers-endless": begins(CHUNKED % 200 + b"0\r\n", floods(b"X-Y: z\r\n")),
    "200-dripping": begins(CHUNKED % 200, drips(b"1\r\nx\r\n")),
    "200-held": begins(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Line.hold),
    "200-bomb": says(answer(200, BOMB, b"Content-Encoding: gzip")),
    "200-twice": says(answer(200) + answer(500, b"and another")),
    "200-upgrade": says(answer(200, b"", b"Connection: upgrade", b"Upgrade: h2c")),
    "204-with-body": says(answer(204, b"nothing to see")),
    "200-giant-length": begins(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Line.hold),
    "200-after-103": begins(interim(103), says(answer(200))),
    "200-idle-flood": begins(answer(200), floods(b"HTTP/1.1 103 Wait\r\n\r\n")),
    # refused, with a body that is hard to show
    "500-gzip": says(answer(500, gzip.compress(PAGE, mtime=0), b"Content-Encoding: gzip")),
    "500-gzip-unsaid": says(answer(500, gzip.compress(PAGE, mtime=0))),
    "500-deflate": says(answer(500, zlib.compress(PAGE), b"Content-Encoding: deflate")),
    "500-raw-deflate": says(answer(500, zlib.compress(PAGE, wbits=-15), b"Content-Encoding: deflate")),
    "500-br": says(answer(500, b"\x0b\x14\x80\x1f\x8b\xff" + PAGE[:20], b"Content-Encoding: br")),
    "500-bomb": says(answer(500, BOMB, b"Content-Encoding: gzip")),
    "500-bytes": says(answer(500, bytes(range(256)))),
    "500-gbk": says(answer(500, "服务器错误".encode("gbk"), b"Content-Type: text/plain; charset=gbk")),
    "500-gbk-unsaid": says(answer(500, b"error: " + "服".encode("gbk") + b" on the server, try again later please")),
    "500-controls": says(answer(500, "you\u202egnp.exe \u2066are \x9b31mred".encode())),
    "500-endless": begins(b"HTTP/1.1 500 X\r\n\r\n", floods(b"x")),
    "500-broken-chunks": says(CHUNKED % 500 + b"5\r\nhello\r\nzz\r\n"),
    "500-dripping": begins(CHUNKED % 500, drips(b"1\r\nx\r\n")),
    "404-html": says(answer(404, PAGE)),
    "redirect": says(answer(307, b"", b"Location: http://127.0.0.1:1/")),
    "retry-after-odd": says(answer(429, b"", b"Retry-After: " + b"9" * 5000)),
    "retry-after-dated": says(answer(503, b"", b"Retry-After: Mon, 99 Foo 99999 99:99:99 QQQ")),
}  # fmt: skip
"""What each name does once it has the whole request."""


def echoes(token: str) -> dict[str, str]:
    """What a server that knows a secret may write into its page of error."""
    raw = token.encode()
    middle = len(token) // 2
    return {
        "plain": token,
        "base64-0": base64.b64encode(raw).decode(),
        "base64-1": base64.b64encode(b"a" + raw + b"z").decode(),
        "base64-2": base64.b64encode(b"ab" + raw + b"z").decode(),
        "base64-url": base64.urlsafe_b64encode(raw).decode(),
        "base64-lines": "\n".join(re.findall(".{1,10}", base64.b64encode(raw).decode())),
        "hex": raw.hex(),
        "hex-capital": raw.hex(":").upper(),
        "percent": "".join(f"%{byte:02x}" for byte in raw),
        "percent-twice": quote(quote(token, safe=""), safe=""),
        "slashes": token.replace("/", "\\/"),
        "json": json.dumps({"token": token}).replace("/", "\\/"),
        "unicode": "".join(f"\\u{ord(c):04X}" for c in token),
        "entities": "".join(f"&#x{ord(c):x};" for c in token),
        "html": html.escape(token).replace("/", "&sol;"),
        "quoted-printable": "".join(f"={byte:02X}" for byte in raw),
        "split": f"{token[:middle]}\r\n    {token[middle:]}",
        "spaced": " ".join(token),
        "split-json": json.dumps(f"{token[:middle]}\n{token[middle:]}"),
        "numbers": json.dumps(list(raw)),
        "capital": token.upper(),
        "cut-off": token[: middle + 2],
        "in-json-in-base64": base64.b64encode(json.dumps({"Authorization": f"Bearer {token}"}).encode()).decode(),
    }


def handle(line: Line) -> None:
    """One connection: requests, each answered as its path says, until one does not leave it usable."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            data = line.connection.recv(65536)
            if not data:
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        name = head.split(b" ", 2)[1].decode().split("?")[0].strip("/")
        MET[name] += 1
        if name == "never-reads":
            line.hold_unread()
            return
        if name == "answers-early":
            line.say(answer(200))
            line.hold_unread()
            return
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        while len(buffer) < length:
            buffer += line.connection.recv(65536)
        buffer = buffer[length:]
        if name == "good":
            line.say(answer(200))
            continue
        if name == "met":
            line.say(answer(200, json.dumps(MET).encode()))
            continue
        if name.startswith("echo-"):
            token: Any = TOKEN.search(head.decode("latin-1"))
            line.say(answer(500, ("you sent: " + echoes(token[1])[name.removeprefix("echo-")] + " thanks").encode()))
            continue
        BEHAVIOURS[name](line)
        return


if __name__ == "__main__":
    serve({"receiver": handle, "neighbour": handle})
