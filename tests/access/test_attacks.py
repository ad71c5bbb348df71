"""Sessions that are stolen, replayed, fixated or expired; forms of other sites; guessed passwords; forged headers; open redirects."""

from __future__ import annotations

import ipaddress
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from engine.stores.sqlite.store import FILE_NAME
from engine.web.access.forwarded import as_sent
from engine.web.access.login import next_page
from engine.web.access.throttle import LIMITS, WINDOW_S, LoginThrottle
from tests.acceptance.service import Service
from tests.access.people import PASSWORD, Person, bearer, inhabited


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("attacks")
    with inhabited(folder, auth={"session": "1h", "idle": "30m"}) as found:
        yield found


def rows(running: Service, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(running.folder / "data" / FILE_NAME)) as connection:
        return connection.execute(statement).fetchall()


# Sessions


def test_a_login_gives_a_new_session_whatever_the_browser_came_with(running: Service) -> None:
    """Fixation: a session that an attacker chose, or had, is not the one after the login."""
    chosen = "A" * 43
    person = Person(running)
    person.bring(chosen)
    person.sign_in("otto")
    first = person.cookie
    assert first != chosen and len(first) == 43
    person.submit("/login", person.fields("/login") | {"name": "otto", "password": PASSWORD, "token": "x"})
    before = Person(running)
    before.bring(chosen)
    assert before.get("/v1/clients").status_code == 401


def test_a_second_login_ends_the_session_before_it(running: Service) -> None:
    person, thief = Person(running), Person(running)
    person.sign_in("otto")
    stolen = person.cookie
    page = Person(running)
    hidden = page.fields("/login")
    person.browser.cookies.set("rollcall_login", str(page.browser.cookies["rollcall_login"]))
    person.submit("/login", hidden | {"name": "otto", "password": PASSWORD})
    assert person.cookie != stolen
    thief.bring(stolen)
    assert thief.get("/v1/clients").status_code == 401


def test_the_cookie_is_for_no_script_and_the_store_has_only_its_hash(running: Service) -> None:
    person = Person(running)
    header = person.sign_in("otto").headers["set-cookie"]
    assert "HttpOnly" in header and "SameSite=lax" in header and "Path=/" in header
    everything = str(rows(running, "SELECT * FROM sessions")) + str(rows(running, "SELECT * FROM audit"))
    assert person.cookie not in everything and PASSWORD not in everything
    assert PASSWORD not in running.log_text() and person.cookie not in running.log_text()


def test_a_new_password_or_a_removed_user_ends_all_sessions(running: Service) -> None:
    admin = bearer("admin-token")
    made = Person(running)
    body = {"name": "mia", "role": "viewer", "password": "a first password"}
    assert made.send("POST", "/v1/users", body, **admin).status_code == 201
    person = Person(running)
    assert person.sign_in("mia", "a first password").status_code == 303
    assert person.get("/v1/clients").status_code == 200
    made.send("PUT", "/v1/users/mia/role", {"role": "operator"}, **admin)
    assert person.get("/v1/me").json()["role"] == "operator"
    assert made.send("PUT", "/v1/users/mia/password", {"password": "another password"}, **admin).status_code == 200
    assert person.get("/v1/clients").status_code == 401
    assert person.sign_in("mia", "a first password").status_code == 401
    person.sign_in("mia", "another password")
    assert made.send("DELETE", "/v1/users/mia", **admin).status_code == 200
    assert person.get("/v1/clients").status_code == 401


def test_a_token_that_was_removed_or_has_expired_opens_nothing(running: Service) -> None:
    admin, program = bearer("admin-token"), Person(running)
    made = program.send("POST", "/v1/tokens", {"name": "short", "role": "viewer", "expires": "1ms"}, **admin).json()
    kept = program.send("POST", "/v1/tokens", {"name": "kept", "role": "viewer"}, **admin).json()
    assert program.get("/v1/clients", Authorization=f"Bearer {made['token']}").status_code == 401
    assert program.get("/v1/clients", Authorization=f"Bearer {kept['token']}").status_code == 200
    session = Person(running)
    assert session.sign_in("", kept["token"]).status_code == 303
    assert session.get("/v1/me").json()["kind"] == "token"
    program.send("DELETE", "/v1/tokens/kept", **admin)
    assert program.get("/v1/clients", Authorization=f"Bearer {kept['token']}").status_code == 401
    assert session.get("/v1/clients").status_code == 401
    assert kept["token"] not in str(rows(running, "SELECT * FROM tokens")) + str(rows(running, "SELECT * FROM audit"))


# Forms of other sites


@pytest.mark.parametrize("headers", [{}, {"Origin": "SELF"}, {"Sec-Fetch-Site": "same-origin"}])
@pytest.mark.parametrize("token", ["", "wrong", "OTHER"])
def test_a_change_needs_the_token_of_its_own_session(running: Service, headers: dict[str, str], token: str) -> None:
    victim, attacker = Person(running), Person(running)
    victim.sign_in("otto")
    attacker.sign_in("vera")
    sent = {name: running.url if value == "SELF" else value for name, value in headers.items()}
    given = attacker.csrf() if token == "OTHER" else token
    body = {"rule": ["gone"], "for": "1h", "author": "x", "comment": "x"}
    refused = victim.send("POST", "/v1/silences", body, **sent, **({"X-CSRF-Token": given} if given else {}))
    assert refused.status_code == 403 and "X-CSRF-Token" in refused.json()["title"]
    form = victim.submit("/act/silence", {"rule": "gone", "for": "1h", "comment": "x", "token": given}, **sent)
    assert form.status_code == 403
    assert victim.submit("/logout", {"token": given}, **sent).status_code == 403
    assert victim.get("/v1/clients").status_code == 200
    made = victim.send("POST", "/v1/silences", body, **sent, **{"X-CSRF-Token": victim.csrf()})
    assert made.status_code == 201 and made.json()["author"] == "otto"  # nobody signs with the name of another


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_origin_gets_nowhere_even_with_the_token(running: Service, origin: str) -> None:
    person = Person(running)
    person.sign_in("otto")
    answer = person.send("POST", "/v1/quarantine/retry", Origin=origin, **{"X-CSRF-Token": person.csrf()})
    assert answer.status_code == 403
    assert person.submit("/login", {"name": "otto", "password": PASSWORD}, Origin=origin).status_code == 403


def test_a_login_that_another_page_sends_is_refused(running: Service) -> None:
    """Otherwise somebody would work, without noticing, in the session of the attacker."""
    person = Person(running)
    assert person.submit("/login", {"name": "otto", "password": PASSWORD}).status_code == 403
    hidden = person.fields("/login")
    assert person.submit("/login", hidden | {"token": "other", "name": "otto", "password": PASSWORD}).status_code == 403
    assert person.cookie == ""


# Guessing


def test_guessing_is_slowed_down_and_the_right_password_then_waits_too(running: Service) -> None:
    person = Person(running)
    statuses = [
        person.sign_in("guessed", f"wrong password {n}").status_code for n in range(LIMITS["name and address"] + 1)
    ]
    assert statuses == [401] * LIMITS["name and address"] + [429]
    waits = person.sign_in("guessed", PASSWORD)
    assert waits.status_code == 429 and int(waits.headers["retry-after"]) > 60
    assert person.sign_in("otto").status_code == 303  # others are not locked out by it


def test_a_wrong_token_costs_nothing_and_says_nothing(running: Service) -> None:
    program = Person(running)
    answers = {
        (answer.status_code, answer.text)
        for answer in (program.get("/v1/clients", Authorization=f"Bearer rollcall_{n}") for n in range(50))
    }
    assert len(answers) == 1 and answers.pop()[0] == 401
    assert program.get("/v1/clients", **bearer("viewer-token")).status_code == 200


def test_the_throttle_counts_names_addresses_and_both() -> None:
    throttle = LoginThrottle()
    for n in range(LIMITS["name and address"]):
        assert throttle.begin("a", "192.0.2.1", float(n)) == 0
    assert throttle.begin("A", "192.0.2.1", 10.0) == WINDOW_S - 10.0
    assert throttle.begin("a", "192.0.2.2", 10.0) == 0
    assert throttle.begin("a", "192.0.2.1", WINDOW_S) == 0  # the first failure is over
    one_place = LoginThrottle()
    assert [one_place.begin(f"u{n}", "2001:db8::1", 0.0) for n in range(LIMITS["address"])] == [0] * LIMITS["address"]
    assert one_place.begin("another", "2001:db8::ffff", 1.0) > 0  # of the same network
    everywhere = LoginThrottle()
    for n in range(LIMITS["name"]):
        assert everywhere.begin("a", f"198.51.100.{n}", 0.0) == 0
    assert everywhere.begin("a", "203.0.113.1", 1.0) > 0
    well = LoginThrottle()
    for n in range(50):  # who signs in rightly is never stopped
        assert well.begin("a", "192.0.2.1", float(n)) == 0
        well.succeeded("a", "192.0.2.1")


def test_strangers_who_guess_do_not_lock_out_who_has_signed_in_from_a_place_before() -> None:
    throttle = LoginThrottle()
    assert throttle.begin("a", "192.0.2.1", 0.0) == 0
    throttle.succeeded("a", "192.0.2.1")
    for n in range(LIMITS["name"]):  # of `a`, from everywhere
        assert throttle.begin("a", f"198.51.100.{n}", 1.0) == 0
    for n in range(LIMITS["address"]):  # of others, from the place of `a`
        assert throttle.begin(f"b{n}", "192.0.2.1", 1.0) == 0
    assert throttle.begin("a", "203.0.113.1", 2.0) > 0
    assert throttle.begin("c", "192.0.2.1", 2.0) > 0
    for n in range(LIMITS["name and address"]):
        assert throttle.begin("a", "192.0.2.1", 2.0 + n) == 0
    assert throttle.begin("a", "192.0.2.1", 10.0) > 0  # guesses from there are bounded as ever


# Where a login leads


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/%0d%0aX: y\r\n", "javascript:alert(1)",
     "/a\tb", "", "evil.example", "/\u2028x", "/login?next=/login", "/" + "a" * 3_000, "/ /evil.example", "/\x00"],
)  # fmt: skip
def test_a_login_leads_to_a_page_of_ours(running: Service, wanted: str) -> None:
    assert next_page(wanted) == "/"
    assert next_page("/client?id=G%40%40%40d1#x") == "/client?id=G%40%40%40d1#x"


def test_the_redirect_after_a_login_is_checked_when_it_is_sent(running: Service) -> None:
    done = Person(running).sign_in("otto", next_page="//evil.example/x")
    assert done.headers["location"] == "/"


# Forged headers


def test_nobody_says_by_a_header_where_a_request_comes_from(running: Service) -> None:
    person = Person(running)
    forged = {
        "X-Forwarded-For": "10.9.8.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=10.9.8.7",
    }
    asked = person.get("/clients", **forged)
    assert asked.headers["location"] == "/login?next=%2Fclients"
    page = person.get("/login", **forged)
    assert "/evil" not in page.text and "Secure" not in page.headers["set-cookie"]
    hidden = person.fields("/login")
    person.submit("/login", hidden | {"name": "otto", "password": PASSWORD}, **forged)
    (newest,) = rows(running, "SELECT address FROM audit WHERE act = 'Login' ORDER BY id DESC LIMIT 1")
    assert newest == ("127.0.0.1",)
    assert person.get("/", **{"X-Forwarded-Host": "evil.example"}).status_code == 200
    assert person.get("/", Host="evil.example").status_code == 403


def test_a_trusted_proxy_is_believed_about_the_nearest_sender_alone() -> None:
    proxies = [ipaddress.ip_network("10.0.0.0/24")]

    def seen(client: str, *headers: tuple[bytes, bytes]) -> tuple[object, str, str]:
        scope = {"client": (client, 1), "scheme": "http", "headers": list(headers)}
        found, prefix = as_sent(scope, proxies)
        assert not any(name.startswith(b"x-forwarded") for name, _ in found["headers"])
        return found["client"][0], found["scheme"], prefix

    chain = (b"x-forwarded-for", b"6.6.6.6, 192.0.2.9, 10.0.0.7")
    secure = (b"x-forwarded-proto", b"https")
    assert seen("10.0.0.1", chain, secure) == ("192.0.2.9", "https", "")  # what stands before may be invented
    assert seen("192.0.2.1", chain, secure) == ("192.0.2.1", "http", "")
    assert seen("10.0.0.1", (b"x-forwarded-for", b"6.6.6.6, nonsense"))[0] == "10.0.0.1"
    assert seen("10.0.0.1", (b"x-forwarded-prefix", b"/rollcall/"))[2] == "/rollcall"
    assert seen("10.0.0.1", (b"x-forwarded-prefix", b"//evil.example"))[2] == ""
    assert seen("10.0.0.1", (b"x-forwarded-prefix", b"/a/../b"))[2] == ""
