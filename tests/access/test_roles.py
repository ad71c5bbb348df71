"""Every route has a role, and every role is held to it: what the table does not name is refused to everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from fastapi import FastAPI
from starlette.routing import Route

from engine.config.loader import load_config
from engine.core.access import ADMIN, OPERATOR, PUBLIC, ROLES, SOURCE, VIEWER, may
from engine.runtime.app import build
from engine.runtime.operator_acts import ACTS, act_routes
from engine.testing import temporary_folder
from engine.web.access.roles import NEEDED, all_needed
from engine.web.auth import AccessCheck
from engine.web.routes import create
from tests.acceptance.service import Service
from tests.access.people import Person, bearer, inhabited

NEEDS = all_needed(act_routes())


def application() -> FastAPI:
    """The application with all its routes, without a service that runs."""
    with temporary_folder() as folder:
        (folder / "config.yaml").write_text("version: 1\nsources: [{name: push, type: http}]\n")
        service = build(load_config(folder / "config.yaml"))
        try:
            checked = create(service)
        finally:
            service.cells.first.store.close()
    assert isinstance(checked, AccessCheck) and isinstance(checked._app, FastAPI)
    return checked._app


def routes_of(app: FastAPI) -> list[str]:
    """Method and path of every route. One that our dependencies do not guard fails: a mount, an included router."""
    found = []
    for route in app.routes:
        assert isinstance(route, Route), f"{route} is no plain route, so its role is not checked"
        found += [f"{method} {route.path}" for method in route.methods or () if method != "HEAD"]
    return found


ROUTES = routes_of(application())


def test_every_route_has_a_role_and_every_line_of_the_table_a_route() -> None:
    without = sorted(route for route in ROUTES if route not in NEEDS)
    assert without == [], "add the role of each of these to engine.web.access.roles.NEEDED"
    assert sorted(set(NEEDED) - set(ROUTES)) == []


def test_every_act_says_its_role() -> None:
    assert {act.__name__: act.needs for act in ACTS if act.needs not in (VIEWER, OPERATOR, ADMIN)} == {}
    undoable = {"Forget", "DiscardDelivery", "DiscardHeld", "ReleaseDelivery", "ReleaseHeld"}
    about_access = {"AddUser", "SetPassword", "SetRole", "RemoveUser", "AddToken", "RemoveToken"}
    assert {act.__name__ for act in ACTS if act.needs == ADMIN} == undoable | about_access
    assert {act.__name__ for act in ACTS if act.needs == VIEWER} == {"WhyNot", "WhyNotAny"}


def test_roles_include_one_another_and_a_source_only_posts() -> None:
    allowed = {needed: {role for role in ROLES if may(role, needed)} for needed in (VIEWER, OPERATOR, ADMIN, SOURCE)}
    assert allowed == {
        VIEWER: {VIEWER, OPERATOR, ADMIN},
        OPERATOR: {OPERATOR, ADMIN},
        ADMIN: {ADMIN},
        SOURCE: {SOURCE, ADMIN},
    }
    assert not may("root", VIEWER) and not may("", VIEWER) and not may(ADMIN, "unheard of")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with inhabited(tmp_path_factory.mktemp("roles")) as found:
        yield found


def ask(running: Service, route: str, headers: dict[str, str]) -> requests.Response:
    """Ask for a route with harmless parameters."""
    method, _, path = route.partition(" ")
    path = re.sub(r"{\w+:int}", "999999", re.sub(r"{\w+(:client)?}", "none-such", path))
    kind = "application/json" if path.startswith("/v1/") else "application/x-www-form-urlencoded"
    return requests.request(
        method, running.url + path, data="", headers=headers | {"Content-Type": kind}, timeout=60, allow_redirects=False
    )


@pytest.mark.parametrize("route", [route for route in ROUTES if NEEDS.get(route) not in (PUBLIC, None)])
def test_each_role_may_do_what_the_table_says_and_nothing_else(running: Service, route: str) -> None:
    for role in ROLES:
        status = ask(running, route, bearer(f"{role}-token")).status_code
        if may(role, NEEDS[route]):
            assert status not in (401, 500), (role, status)
            is_form = not route.split()[1].startswith("/v1/") and route.startswith("POST")
            assert is_form or status != 403, (role, status)
        else:
            assert status == 403, (role, status)
    stranger = ask(running, route, {}).status_code
    assert stranger in ((401,) if "/v1/" in route or stranger == 401 else (303,))
    assert ask(running, route, {"Authorization": "Bearer wrong"}).status_code == 401


def test_a_page_cannot_do_what_its_caller_may_not(running: Service) -> None:
    """The form of the console is open to viewers; the act behind it is not."""
    person = Person(running)
    person.sign_in("vera")
    answer = person.submit("/act/acknowledge", {"token": person.csrf(), "alert": "x"})
    assert answer.status_code == 403 and "needs the role operator" in answer.text
