"""People sign in at a real identity provider, get the role that their groups give, and nobody else gets in that way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from tests.acceptance.service import Service, eventually, service
from tests.access.people import Person
from tests.access.provider import CLIENT_SECRET, provider, sign_in_there


class World(NamedTuple):
    """A service and the provider that it trusts."""

    running: Service
    issuer: str
    back: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("oidc")
    (folder / "secret").write_text(CLIENT_SECRET)
    with service(folder) as found:
        back = f"{found.url}/login/oidc/callback"
        with provider(back) as issuer:
            config = json.loads((folder / "config.yaml").read_text())
            config["http"]["external_url"] = found.url
            oidc = {
                "issuer": issuer,
                "client_id": "rollcall",
                "client_secret": {"file": "secret"},
                "scopes": ["profile", "groups"],
            }
            roles = {"admin": "admins", "operator": ["oncall"]}
            config["auth"] = {"oidc": oidc | {"roles": roles, "label": "the house's login"}}
            (folder / "config.yaml").write_text(json.dumps(config))
            found.rules()
            found.start(ready=False)
            eventually(lambda: _answers(found))
            yield World(found, issuer, back)


def _answers(running: Service) -> bool:
    assert running.process is not None and running.process.poll() is None, running.log_text()[-2000:]
    try:
        return requests.get(f"{running.url}/healthz", timeout=30).ok
    except requests.RequestException:
        return False


def arrive(world: World, name: str, next_page: str = "/") -> tuple[Person, requests.Response]:
    """Sign in at the provider and come back."""
    person = Person(world.running)
    begun = person.get(f"/login/oidc?{urlencode({'next': next_page})}")
    assert begun.status_code == 303 and begun.headers["location"].startswith(world.issuer), begun.headers
    address = sign_in_there(person.browser, begun.headers["location"], name, world.back)
    return person, person.browser.get(address, timeout=60, allow_redirects=False)


@pytest.mark.parametrize(("name", "role"), [("olga", "operator"), ("adam", "admin")])
def test_a_person_gets_the_role_of_their_groups(world: World, name: str, role: str) -> None:
    assert "the house&#39;s login" in Person(world.running).get("/login").text
    person, done = arrive(world, name, "/clients?q=x")
    assert (done.status_code, done.headers["location"]) == (303, "/clients?q=x")
    me = person.get("/v1/me").json()
    assert (me["name"], me["kind"], me["role"]) == (name, "oidc", role)
    assert person.send("POST", "/v1/quarantine/retry", **{"X-CSRF-Token": me["csrf"]}).status_code == 200
    entries = world.running.command("audit", "--format", "jsonl", "--who", name)
    acts = [json.loads(line)["act"] for line in entries.stdout.splitlines()]
    assert acts[-1] == "Login"


def test_a_person_without_a_role_is_told_so_and_gets_no_session(world: World) -> None:
    person, refused = arrive(world, "guest")
    assert refused.headers["location"].startswith("/login?refused=role")
    assert person.cookie == ""
    assert "none of your groups" in person.get(refused.headers["location"]).text


def test_an_answer_is_good_once_and_for_the_browser_that_asked_alone(world: World) -> None:
    person, thief = Person(world.running), Person(world.running)
    begun = person.get("/login/oidc")
    address = sign_in_there(person.browser, begun.headers["location"], "olga", world.back)
    # The address leaks: another browser has no cookie of the login, or that of its own.
    assert "refused=stale" in thief.browser.get(address, timeout=60, allow_redirects=False).headers["location"]
    thief.get("/login/oidc")
    assert "refused=stale" in thief.browser.get(address, timeout=60, allow_redirects=False).headers["location"]
    kept = person.browser.cookies.get("rollcall_oidc")
    assert person.browser.get(address, timeout=60, allow_redirects=False).headers["location"] == "/"
    # Played again with the cookie of the login: the provider has given the code once.
    again = Person(world.running)
    again.browser.cookies.set("rollcall_oidc", str(kept))
    assert "refused=provider" in again.browser.get(address, timeout=60, allow_redirects=False).headers["location"]
    assert (thief.cookie, again.cookie) == ("", "")


@pytest.mark.parametrize(
    "changed",
    [{"state": "other"}, {"state": ""}, {"iss": "https://evil.example"}, {"code": ""}, {"error": "access_denied"}],
)
def test_an_answer_that_was_changed_lets_nobody_in(world: World, changed: dict[str, str]) -> None:
    person = Person(world.running)
    begun = person.get("/login/oidc")
    address = sign_in_there(person.browser, begun.headers["location"], "olga", world.back)
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    refused = person.get(f"/login/oidc/callback?{urlencode(query | changed)}")
    assert "/login?refused=" in refused.headers["location"]
    assert person.cookie == ""


def test_the_login_cookie_cannot_be_forged(world: World) -> None:
    person = Person(world.running)
    begun = person.get("/login/oidc")
    text, _, mac = str(person.browser.cookies.get("rollcall_oidc")).partition(".")
    address = sign_in_there(person.browser, begun.headers["location"], "olga", world.back)
    person.browser.cookies.clear(name="rollcall_oidc", domain="127.0.0.1", path="/")
    person.browser.cookies.set("rollcall_oidc", f"{text[:-2]}AA.{mac}")
    refused = person.browser.get(address, timeout=60, allow_redirects=False)
    assert "refused=stale" in refused.headers["location"]


def test_the_flow_asks_for_a_code_with_pkce_and_a_nonce(world: World) -> None:
    begun = Person(world.running).get("/login/oidc")
    query = parse_qs(urlsplit(begun.headers["location"]).query)
    assert (query["response_type"], query["code_challenge_method"]) == (["code"], ["S256"])
    assert len(query["nonce"][0]) > 40 and len(query["state"][0]) > 40 and "openid" in query["scope"][0].split()


def test_the_log_says_why_a_login_did_not_work_and_holds_no_secret(world: World) -> None:
    _, refused = arrive(world, "guest")
    assert "refused=role" in refused.headers["location"]
    reasons = [line["reason"] for line in world.running.log_lines("oidc.refused")]
    assert "no value of the claim groups gives a role" in reasons
    log = world.running.log_text()
    assert CLIENT_SECRET not in log and "id_token" not in log and "code=" not in log
