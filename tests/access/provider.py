"""A real identity provider on the loopback, and a person who signs in there with a browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import requests

from tests.acceptance.service import free_port, missing
from tests.access.provider_package import modules, node
from tests.fetched import Absent

PEOPLE: Mapping[str, Sequence[str]] = {"olga": ["oncall", "staff"], "adam": ["admins", "oncall"], "guest": ["visitors"]}
"""Who can sign in there, with their groups."""

CLIENT_SECRET = "a secret of the tests, long enough for anybody"


@contextmanager
def provider(redirect_uri: str) -> Iterator[str]:
    """The address of a provider that knows one client, `rollcall`; ended when the block is left."""
    try:
        folder, program = modules(), node()
    except Absent as absent:
        missing(str(absent))
    port = free_port()
    client = {"client_id": "rollcall", "client_secret": CLIENT_SECRET, "redirect_uris": [redirect_uri]}
    told = json.dumps({"folder": str(folder), "port": port, "client": client, "people": PEOPLE})
    script = Path(__file__).with_name("provider.mjs")
    words = [program, str(script), told]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("listening" in line for line in process.stdout), "the provider has ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def sign_in_there(browser: requests.Session, address: str, name: str, back: str) -> str:
    """Follow the provider's pages as a person does, with any password, to the address that leads back."""
    for _ in range(12):
        answer = browser.get(address, timeout=60, allow_redirects=False)
        while answer.is_redirect:
            address = urljoin(answer.url, answer.headers["location"])
            if address.startswith(back):
                return address
            answer = browser.get(address, timeout=60, allow_redirects=False)
        prompt = "login" if 'name="login"' in answer.text else "consent"
        fields = {"prompt": prompt} | ({"login": name, "password": "any"} if prompt == "login" else {})
        answer = browser.post(answer.url, fields, timeout=60, allow_redirects=False)
        assert answer.is_redirect, answer.text
        address = urljoin(answer.url, answer.headers["location"])
        if address.startswith(back):
            return address
    raise AssertionError(f"the provider does not lead back; last at {address}")
