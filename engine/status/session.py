"""Requests that carry a signature or a token: no proxy, no redirect, no cookie, a bounded body, and nothing of them in a log.

An answer that drips byte by byte is bounded by the size of its body, not by the time. Read `fetch` first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from engine.status.base import AskingFailed
from engine.status.http import TIMED_OUT, beneath

LARGEST_BODY: Final = 64 * 1024
CONNECTIONS: Final = 64
"""Connections that are kept open for the next call, one for each thread that asks at once."""


HEADERS: Final = {"User-Agent": "rollcall", "Accept": "application/json", "Accept-Encoding": "identity"}


def _is_unsigned(record: logging.LogRecord) -> bool:
    """Lines of the HTTP library that name a signed URL are for nobody's log, at whatever level."""
    return "signature=" not in record.getMessage()


logging.getLogger("urllib3.connectionpool").addFilter(_is_unsigned)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: what was signed for one service is not handed on."""


def plain_session(ca: Path | None = None) -> requests.Session:
    """A session for several threads: nothing of it changes with an answer. `ca`: trusted instead of the public certificates."""
    session = _Session()
    session.trust_env = False
    session.verify = str(ca) if ca is not None else True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS))
    return session


def _prepared(session: requests.Session, url: str, headers: Mapping[str, str] | None) -> requests.PreparedRequest:
    """A GET of a URL that is encoded already: what `Session.get` works out for each request is known here, and dear."""
    made = requests.PreparedRequest()
    made.method, made.url = "GET", url
    made.headers = CaseInsensitiveDict({**HEADERS, **(headers or {})})
    return made


def fetch(
    session: requests.Session, url: str, where: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of a GET, whatever the status. AskingFailed, about `where`, when there is no whole answer.

    `timeout_s` bounds connecting and each wait for bytes. Errors of the library name the URL, and with it the signature: only
    what lies beneath them is shown.
    """
    late = AskingFailed(f"{where} does not answer within {timeout_s:g} s", answered=False)
    try:
        with session.send(
            _prepared(session, url, headers),
            timeout=(timeout_s, timeout_s),
            stream=True,
            allow_redirects=False,
            verify=session.verify,
            cert=None,
            proxies={},
        ) as answer:
            body = b""
            for piece in answer.iter_content(4096):
                body += piece
                if len(body) > LARGEST_BODY:
                    raise AskingFailed(
                        f"{where} answers with more than {LARGEST_BODY // 1024} KiB: is the address right?"
                    )
            return answer.status_code, answer.headers, body
    except requests.exceptions.SSLError as error:
        raise AskingFailed(f"{where} has no TLS that can be trusted: {beneath(error)}", lasting=True) from None
    except requests.Timeout:
        raise late from None
    except requests.exceptions.ChunkedEncodingError:
        raise AskingFailed(f"{where} broke off in the middle of its answer", answered=False) from None
    except requests.ConnectionError as error:
        told = beneath(error)
        raise (
            late if told == TIMED_OUT else AskingFailed(f"{where} cannot be reached: {told}", answered=False)
        ) from None
    except (requests.RequestException, OSError, ValueError) as error:
        raise AskingFailed(f"{where} cannot be asked: {type(error).__name__}") from None
