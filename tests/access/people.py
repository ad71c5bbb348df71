"""A service with users and tokens, and people with browsers who use it, over real connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from engine.clock import EngineClock
from engine.core.access import ADMIN, OPERATOR, SOURCE, VIEWER
from engine.stores.base import TokenRow, UserRow
from engine.stores.sqlite.store import SqliteStore
from engine.web.access.passwords import hashed
from engine.web.access.tokens import hash_of
from tests.acceptance.service import Service, eventually, service

PASSWORD = "correct horse battery"
_KEPT: list[str] = []  # hashing takes long: once is enough

USERS = {"vera": VIEWER, "otto": OPERATOR, "anna": ADMIN}
TOKENS = {f"{role}-token": role for role in (VIEWER, OPERATOR, ADMIN, SOURCE)}


def kept_password() -> str:
    """The hash of `PASSWORD`."""
    if not _KEPT:
        _KEPT.append(hashed(PASSWORD))
    return _KEPT[0]


def token_of(name: str) -> str:
    """The token with this name."""
    return f"rollcall_{name}"


def populate(data: Path) -> None:
    """Write the users and the tokens into a store that no service works on."""
    store = SqliteStore.open(data)
    now_ms = EngineClock().now_ms()
    with store.transaction():
        for name, role in USERS.items():
            store.access.write_user(
                UserRow(name=name, role=role, password=kept_password(), created_at_ms=now_ms, password_at_ms=now_ms)
            )
        for name, role in TOKENS.items():
            store.access.write_token(
                TokenRow(
                    name=name,
                    role=role,
                    hash=hash_of(token_of(name)),
                    created_at_ms=now_ms,
                    expires_at_ms=None,
                    created_by="a test",
                )
            )
    store.close()


@contextmanager
def inhabited(folder: Path, **config: Any) -> Iterator[Service]:
    """A running service with the users and the tokens."""
    (folder / "data").mkdir()
    populate(folder / "data")
    with service(folder, **config) as found:
        found.rules({"name": "gone", "trigger": "offline", "flapping": "fire", "actions": [{"log": {"message": "x"}}]})
        found.start(ready=False)
        eventually(lambda: is_ready(found))
        yield found


def is_ready(running: Service) -> bool:
    """Asked with a token."""
    assert running.process is not None and running.process.poll() is None, running.log_text()[-2000:]
    try:
        return requests.get(f"{running.url}/readyz", headers=bearer("viewer-token"), timeout=30).status_code == 200
    except requests.RequestException:
        return False


def bearer(name: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {token_of(name)}"}


class Person:
    """Somebody with a browser, which keeps cookies and follows no redirect by itself."""

    def __init__(self, running: Service) -> None:
        self.running = running
        self.browser = requests.Session()
        self.browser.trust_env = False

    def get(self, path: str, **headers: str) -> requests.Response:
        """Open an address."""
        return self.browser.get(self.running.url + path, headers=headers, timeout=60, allow_redirects=False)

    def fields(self, path: str) -> dict[str, str]:
        """The hidden fields of the first form of a page."""
        page = self.get(path).text
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition("</form>")[0]))

    def submit(self, path: str, fields: dict[str, str], **headers: str) -> requests.Response:
        """Send a form."""
        return self.browser.post(self.running.url + path, fields, headers=headers, timeout=60, allow_redirects=False)

    def sign_in(self, name: str, password: str = PASSWORD, next_page: str = "/") -> requests.Response:
        """With the form of the page."""
        hidden = self.fields("/login") | {"next": next_page}
        return self.submit("/login", hidden | {"name": name, "password": password})

    def csrf(self) -> str:
        """What a script of our page sends."""
        return str(self.get("/v1/me").json()["csrf"])

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """A request with JSON, as a script sends it."""
        return self.browser.request(
            method, self.running.url + path, json={} if body is None else body, headers=headers, timeout=60
        )

    def bring(self, secret: str) -> None:
        """Have this browser come with the session of another one."""
        self.browser.cookies.set("rollcall_session", secret, domain="127.0.0.1", path="/")

    @property
    def cookie(self) -> str:
        """The secret of the session; empty without one."""
        return self.browser.cookies.get("rollcall_session") or ""
