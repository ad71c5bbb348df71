"""A page of another site cannot make a visitor's browser cause anything here, whatever it loads and however it hides."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.acceptance.service import Service, event, service

VERIFY = "/v1/clients/G@@@d1/status?verify=true"
WHY_NOT = "/v1/rules/gone/why-not?client=G@@@d1"
EFFECTS = (VERIFY, "/v1/clients/G@@@d1/status?%76erify=1", "/v1/clients/a%2Fb/status?x=&verify", WHY_NOT)
READS = ("/v1/clients", "/v1/clients/G@@@d1", "/v1/clients/G@@@d1/status", "/metrics", "/")
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image", **BROWSER}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", **BROWSER}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("foreign")) as found:
        found.rules({"name": "gone", "trigger": "offline", "actions": [{"log": {"message": "x"}}]})
        found.start()
        found.tell(event("G@@@d1", "connect", "c"))
        yield found


def status(running: Service, path: str, headers: dict[str, str], method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("site", ["cross-site", "same-site", "CROSS-SITE", "something-new"])
@pytest.mark.parametrize("destination", ["image", "script", "style", "iframe", "object", "empty", ""])
def test_nothing_is_loaded_into_a_page_of_another_site(running: Service, site: str, destination: str) -> None:
    for path in (*EFFECTS, *READS):
        assert status(running, path, IMAGE | {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": destination}) == 403


@pytest.mark.parametrize("path", EFFECTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [LINK, BROWSER, BROWSER | {"Referer": "http://evil.example/page"}, {"Referer": "http://evil.example/"},
     LINK | {"Sec-Fetch-Dest": "iframe"}, LINK | {"Referer": "http://127.0.0.1:1/"}],
)  # fmt: skip
def test_what_has_an_effect_is_not_even_linked_from_there(
    running: Service, path: str, method: str, headers: dict[str, str]
) -> None:
    assert status(running, path, headers, method) == 403


@pytest.mark.parametrize("path", READS)
def test_a_person_may_follow_a_link_to_what_only_reads(running: Service, path: str) -> None:
    assert status(running, path, LINK) == 200
    assert status(running, path, BROWSER | {"Referer": "http://wiki.example/"}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"User-Agent": "curl/8.5.0"},
        BROWSER | {"Sec-Fetch-Site": "same-origin"},
        BROWSER | {"Sec-Fetch-Site": "none"},
    ],
)
def test_programs_our_own_pages_and_people_may_do_what_has_an_effect(running: Service, headers: dict[str, str]) -> None:
    assert status(running, VERIFY, headers) == 501  # there is no status provider to query
    assert status(running, WHY_NOT, headers) == 200


def test_an_older_browser_on_our_own_page_says_so_with_its_referrer(running: Service) -> None:
    ours = f"http://127.0.0.1:{running.port}/"
    assert status(running, WHY_NOT, BROWSER | {"Referer": ours}) == 200
    assert status(running, WHY_NOT, BROWSER | {"Origin": ours.rstrip("/")}) == 200
