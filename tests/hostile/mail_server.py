"""A bad mail server: `python -m tests.hostile.mail_server CERTIFICATE` prints a port for each name in `BEHAVIOURS`, and `echo-…`.

A behaviour says what is different from a good server: the answer to a command (bytes, or something that is done in its place). After a
command `good` is good for all others.
"""

from __future__ import annotations

import base64
import ssl
import sys
from collections.abc import Callable
from typing import Any

from tests.hostile.serving import Line, serve

Answer = bytes | Callable[[Line], None]

GOOD: dict[str, Answer] = {
    "greeting": b"220 post.test ESMTP\r\n",
    "EHLO": b"250-post.test\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250 SIZE 1000000\r\n",
    "STARTTLS": b"220 go on\r\n",
    "AUTH": b"235 welcome\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go on\r\n",
    "message": b"250 taken\r\n",
    "RSET": b"250 ok\r\n",
    "QUIT": b"221 bye\r\n",
    "idle": b"",
}


def closes(line: Line) -> None:
    raise ConnectionAbortedError


def flood(unit: bytes) -> Callable[[Line], None]:
    return lambda line: line.flood(unit)


def drip(unit: bytes) -> Callable[[Line], None]:
    return lambda line: line.drip(unit)


def hold(line: Line) -> None:
    line.hold()


BEHAVIOURS: dict[str, dict[str, Answer]] = {
    "good": {},
    # foreign bytes
    "550-bytes": {"RCPT": b"550 no such user \x9b\r\n"},
    "550-surrogate": {"RCPT": b"550 \xed\xa0\x80 \xff\xfe\r\n"},
    "greets-in-gbk": {"greeting": "554 服务器忙\r\n".encode("gbk")},
    "greets-in-gbk-well": {"greeting": "220 欢迎\r\n".encode("gbk")},
    "550-controls": {"message": "550 you\u202e \x1b[31mred\r\n".encode()},
    # without end
    "greeting-endless": {"greeting": flood(b"220-x\r\n")},
    "greeting-dripping": {"greeting": drip(b"220-x\r\n")},
    "greeting-line": {"greeting": flood(b"2")},
    "greeting-held": {"greeting": hold},
    "ehlo-endless": {"EHLO": flood(b"250-X\r\n")},
    "ehlo-dripping": {"EHLO": drip(b"250-X\r\n")},
    "ehlo-line": {"EHLO": flood(b"250-" + b"x" * 60_000 + b"\r\n")},
    "mail-yes-endless": {"MAIL": flood(b"250 ok\r\n")},
    "rcpt-endless": {"RCPT": flood(b"250-x\r\n")},
    "rcpt-dripping": {"RCPT": drip(b"250-x\r\n")},
    "data-endless": {"message": flood(b"250-x\r\n")},
    "data-held": {"message": hold},
    "idle-flood": {"idle": flood(b"250 ok\r\n")},
    # none of SMTP's answers
    "garbage": {"greeting": b"\x00\xffHTTP/1.1 400 Bad Request\r\n\r\n"},
    "http": {"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
    "code-0": {"MAIL": b"000 what\r\n"},
    "code-999": {"message": b"999 what\r\n"},
    "code-negative": {"message": b"-12 what\r\n"},
    "no-354": {"DATA": b"250 fine, without it\r\n"},
    "blank": {"MAIL": b"\r\n\r\n\r\n"},
    # another code of the same class: the first digit decides
    "200-everywhere": {
        **dict.fromkeys(("EHLO", "MAIL", "RCPT", "message", "RSET", "QUIT", "greeting"), b"200 fine\r\n"),
        "DATA": b"300 go on\r\n",
    },
    "200-message": {"message": b"200 taken\r\n"},
    "221-message": {"message": b"221 taken, bye\r\n"},
    "250-greeting": {"greeting": b"250 hello\r\n"},
    "252-rcpt": {"RCPT": b"252 perhaps\r\n"},
    "299-mail": {"MAIL": b"299-yes\r\n299 yes\r\n"},
    "350-data": {"DATA": b"350 go on\r\n"},
    "511-message": {"message": b"511 never\r\n"},
    "499-message": {"message": b"499 later\r\n"},
    # another class
    "100-message": {"message": b"100 wait\r\n"},
    "354-message": {"message": b"354 more\r\n"},
    "100-data": {"DATA": b"100 wait\r\n"},
    "354-mail": {"MAIL": b"354 go on\r\n"},
    "354-rcpt": {"RCPT": b"354 go on\r\n"},
    "100-greeting": {"greeting": b"120 in a minute\r\n"},
    "100-ehlo": {"EHLO": b"150 wait\r\n"},
    "auth-200": {"AUTH": b"200 welcome\r\n"},
    "auth-crammd5-235": {"EHLO": b"250-post.test\r\n250-STARTTLS\r\n250 AUTH CRAM-MD5\r\n"},
    "auth-150": {"AUTH": b"150 wait\r\n"},
    "starttls-250": {"STARTTLS": b"250 go on\r\n"},
    # at the wrong moment
    "421-greeting": {"greeting": b"421 too busy\r\n"},
    "421-mail": {"MAIL": b"421 closing\r\n"},
    "421-rcpt": {"RCPT": b"421 closing\r\n"},
    "421-message": {"message": b"421 closing\r\n"},
    "closes-at-greeting": {"greeting": closes},
    "closes-at-ehlo": {"EHLO": closes},
    "closes-at-mail": {"MAIL": closes},
    "closes-at-rcpt": {"RCPT": closes},
    "closes-at-data": {"DATA": closes},
    "closes-after-message": {"message": closes},
    "resets-after-message": {"message": Line.reset},
    # encryption and login
    "no-starttls": {"EHLO": b"250 post.test\r\n"},
    "starttls-454": {"STARTTLS": b"454 not now \x9b\r\n"},
    "starttls-garbage": {"STARTTLS": b"220 go on\r\n" + b"250 this is no TLS\r\n" * 50},
    "starttls-injects": {"STARTTLS": b"220 go on\r\n250-post.test\r\n250 AUTH PLAIN\r\n235 you are in\r\n"},
    "starttls-held": {"STARTTLS": hold},
    "auth-535": {"AUTH": b"535 wrong \x9b\r\n"},
    "auth-closes": {"AUTH": closes},
    "auth-endless": {"AUTH": flood(b"334-x\r\n")},
    "auth-challenge": {"AUTH": b"334 !!!no base64!!!\r\n"},
    "auth-yes-endless": {"AUTH": b"334 \r\n"},
}  # fmt: skip


def echoes(username: str, password: str) -> dict[str, bytes]:
    """What a server may repeat of a login, as its refusal."""
    plain = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
    texts = {
        "plain": f"535 not {password}",
        "base64": f"535 not {base64.b64encode(password.encode()).decode()}",
        "auth-plain": f"535 not {plain}",
        "split": f"535-not {plain[:9]}\r\n535 {plain[9:]}",
        "hex": f"535 not {password.encode().hex()}",
        "no-answer": f"not even an answer, {password}",
        "challenge": f"334 {password}",
        "entities": "535 not " + "".join(f"&#{ord(c)};" for c in password),
    }
    return {name: f"{text}\r\n".encode() for name, text in texts.items()}


class _Server:
    def __init__(self, answers: dict[str, Answer], certificate: str) -> None:
        self._answers = {**GOOD, **answers}
        self._certificate = certificate

    def handle(self, line: Line) -> None:
        """One connection, to its end."""
        self._give(line, "greeting")
        buffer = b""
        while True:
            while b"\r\n" not in buffer:
                data = line.connection.recv(65536)
                if not data:
                    return
                buffer += data
            command, _, buffer = buffer.partition(b"\r\n")
            verb = command[:8].split(b" ")[0].decode("latin-1").upper()
            if verb not in self._answers:
                line.say(b"334 \r\n" if self._answers["AUTH"] == b"334 \r\n" else b"500 what\r\n")
                continue
            self._give(line, verb)
            if verb == "STARTTLS" and self._answers[verb] in (GOOD[verb], BEHAVIOURS["starttls-250"][verb]):
                line = Line(self._encrypted(line.connection))
            elif verb == "DATA" and isinstance(answer := self._answers[verb], bytes) and answer.startswith(b"3"):
                while not buffer.endswith(b"\r\n.\r\n"):
                    buffer += line.connection.recv(65536)
                buffer = b""
                self._give(line, "message")
                self._give(line, "idle")

    def _give(self, line: Line, what: str) -> None:
        answer = self._answers[what]
        if callable(answer):
            answer(line)
        elif answer:
            line.say(answer)

    def _encrypted(self, connection: Any) -> Any:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate)
        return context.wrap_socket(connection, server_side=True)


def serving(name: str) -> Callable[[Line], None]:
    """The server of that name, without encryption, for a test that accepts the connections itself."""
    return _Server(BEHAVIOURS[name], "").handle


if __name__ == "__main__":
    # The password is the test's own.
    known = {f"echo-{name}": {"AUTH": said} for name, said in echoes("rollcall", "tok/en+9f3A~Zq7").items()}
    chosen: dict[str, dict[str, Any]] = {**BEHAVIOURS, **known}
    serve({name: _Server(answers, sys.argv[1]).handle for name, answers in chosen.items()})
