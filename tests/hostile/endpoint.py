"""A bad status endpoint: `python -m tests.hostile.endpoint` prints a port for each name; whatever is asked there is answered as the name says.

Names are those of the bad webhook receiver, and `BODIES`: answers of status 200 whose body is the trouble.
"""

from __future__ import annotations

import json
from functools import partial
from urllib.parse import parse_qs

from tests.hostile.receiver import BEHAVIOURS, MET, answer, echoes
from tests.hostile.serving import Line, serve

BODIES: dict[str, bytes] = {
    "good": b'{"code":0,"success":true,"online":1}',
    "deep": b"[" * 60_000,
    "deep-message": b'{"code":7,"message":' + b"[" * 400 + b"]" * 400 + b"}",
    "large": b'{"code":0,"online":1,"message":"' + b"x" * 70_000 + b'"}',
    "number-large": b'{"code":0,"success":true,"online":' + b"9" * 4_000 + b"}",
    "number-huge": b'{"code":0,"success":true,"online":' + b"9" * 50_000 + b"}",
    "not-a-number": b'{"code":0,"success":true,"online":NaN}',
    "true": b'{"code":0,"success":true,"online":true}',
    "not-utf-8": b'{"code":7,"message":"\xff\xfe"}',
    "surrogates": b'{"code":7,"message":"\\ud800 \\u202e \\u009b31m"}',
    "empty": b"",
}


def handle(name: str, line: Line) -> None:
    """One request, and what is said to it."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = line.connection.recv(65536)
        if not data:
            return
        head += data
    MET[name] += 1
    if name in BODIES:
        line.say(answer(200, BODIES[name]))
    elif name == "headers-odd":
        line.say(answer(200, BODIES["good"], b"no colon here at all", b"\x00: x"))
    elif name.startswith("echo-"):
        query = parse_qs(head.split(b" ", 2)[1].decode().partition("?")[2])
        said = echoes(query["signature"][0])[name.removeprefix("echo-")]
        line.say(answer(403, b'{"code":9,"message":%s}' % json.dumps(said).encode()))
    else:
        BEHAVIOURS[name](line)


if __name__ == "__main__":
    names = [*BEHAVIOURS, *BODIES, "headers-odd", *(f"echo-{name}" for name in echoes("x" * 20))]
    serve({name: partial(handle, name) for name in names})
