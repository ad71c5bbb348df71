"""People sign in and out, and what they may then do is what their role allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.service import Service, service
from tests.access.people import Person, inhabited


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with inhabited(tmp_path_factory.mktemp("people")) as found:
        yield found


def test_without_users_on_loopback_no_login_is_needed(tmp_path: object) -> None:
    with service(tmp_path) as found:  # type: ignore[arg-type]
        found.start()
        person = Person(found)
        assert person.get("/").status_code == 200
        assert person.get("/v1/me").json() == {"name": None, "kind": "anybody", "role": "admin", "login": False}
        assert person.get("/login").headers["location"] == "/"


def test_a_person_is_asked_to_sign_in_and_gets_to_the_page_that_was_wanted(running: Service) -> None:
    person = Person(running)
    asked = person.get("/?alert=x")
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2F%3Falert%3Dx")
    done = person.sign_in("otto", next_page="/?alert=x")
    assert (done.status_code, done.headers["location"]) == (303, "/?alert=x")
    me = person.get("/v1/me").json()
    assert (me["name"], me["kind"], me["role"], me["login"]) == ("otto", "user", "operator", True)
    assert person.get("/").status_code == 200


def test_a_logout_ends_the_session_for_whoever_has_its_cookie(running: Service) -> None:
    person, thief = Person(running), Person(running)
    person.sign_in("vera")
    stolen = person.cookie
    thief.bring(stolen)
    assert thief.get("/v1/me").json()["name"] == "vera"
    assert person.submit("/logout", {"token": person.csrf()}).status_code == 303
    assert person.cookie == ""
    assert thief.get("/v1/clients").status_code == 401


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_a_wrong_password_says_nothing_about_the_user(running: Service, name: str) -> None:
    person = Person(running)
    refused = person.sign_in(name, "wrong password")
    assert refused.status_code == 401
    assert "the name or the password is wrong" in refused.text
    assert person.cookie == ""
