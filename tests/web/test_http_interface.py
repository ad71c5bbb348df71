"""The HTTP interface as its callers meet it: a real service on the loopback, asked over real connections."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.acceptance.service import Answer, Service, event, eventually, now_ms, offline_rule, service, sink

ODD_IDS = ("G/1@@@d/2", "G@@@ü ?#&%25", "no-separator", "G@@@x/status", "G@@@x/timeline", "a@@@b@@@c", "G@@@<b>&\"'")
CHAIN = "G@@@chain"
PROBLEM = "application/problem+json"


class Reply(NamedTuple):
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a fleet, alerts, deliveries of every fate, a quarantine, and clients with unusual names."""
    folder = tmp_path_factory.mktemp("interface")
    (folder / "inventory.csv").write_text("client,site\nG@@@d*,north\n*,south\n")
    with sink() as target, service(folder, inventory="inventory.csv") as found:
        target.answer = lambda arrival: Answer(status=400 if arrival.path == "/refuses" else 204)
        found.rules(
            offline_rule(target.url + "/takes", match={"device": "d*"}),
            offline_rule(target.url + "/refuses", "refused", match={"device": "d*"}, recovery=False),
        )
        found.start()
        found.tell(*(event(f"G@@@d{n}", "connect", f"c{n}", now_ms() - 5_000) for n in range(7)))
        found.tell(*(event(client, "connect", "c", now_ms() - 4_000) for client in ODD_IDS))
        for step in range(6):
            found.tell(
                event(CHAIN, "connect", f"k{step}", now_ms() - 50_000 + step * 5_000, clientIp=f"10.0.0.{step}:5")
            )
        found.tell(*(event(f"G@@@d{n}", "tcpclean", f"c{n}") for n in range(3)))
        assert found.post("{broken", '{"clientId": 7}').json()["accepted"] == 0
        eventually(lambda: found.items("/v1/deliveries", state="dead"), lambda dead: len(dead) == 3)
        eventually(lambda: found.items("/v1/deliveries", state="delivered"), lambda sent: len(sent) == 3)
        yield found


def ask(running: Service, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """One request, its path and headers exactly as given."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    try:
        sent = {"Host": f"127.0.0.1:{running.port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def test_answers_hold_nothing_that_cannot_be_seen(running: Service) -> None:
    hidden = "G@@@\u202eeman\u200b\U000e0041ü"
    running.tell(event(hidden, "connect", "c", now_ms() - 4_000))
    reply = ask(running, "GET", f"/v1/clients/{quote(hidden, safe='')}")
    assert reply.json["client"] == hidden
    assert "\\u202eeman\\u200b\\udb40\\udc41ü" in reply.text


def get(running: Service, path: str) -> Reply:
    return ask(running, "GET", path)


def refused(reply: Reply, status: int) -> str:
    """The title of a problem; fails when the reply is none."""
    assert (reply.status, reply.headers["content-type"]) == (status, PROBLEM), reply
    assert reply.json["status"] == status
    return str(reply.json["title"])


# Lists

LISTS = (
    "/v1/clients", "/v1/alerts", "/v1/deliveries", "/v1/quarantine", "/v1/rules", f"/v1/clients/{CHAIN}/timeline",
    "/v1/silences", "/v1/sources", "/v1/reconciliations",
)  # fmt: skip


@pytest.mark.parametrize("path", LISTS[:6])
def test_pages_of_any_size_hold_what_one_page_holds_in_the_same_order(running: Service, path: str) -> None:
    whole = running.get(path, limit=1000)
    assert whole["next"] is None
    assert len(whole["items"]) > 1
    for limit in (1, 2, 3):
        pages, cursor = [], ""
        while cursor is not None:
            page = running.get(path, limit=limit, cursor=cursor)
            assert len(page["items"]) <= limit
            pages += page["items"]
            cursor = page["next"]
        assert pages == whole["items"]


def test_clients_come_by_name_and_are_filtered_by_status_group_and_device(running: Service) -> None:
    names = [found["client"] for found in running.items("/v1/clients")]
    assert names == sorted(names)
    assert set(ODD_IDS) < set(names)
    offline = [found["client"] for found in running.items("/v1/clients", status="offline")]
    assert offline[:3] == ["G@@@d0", "G@@@d1", "G@@@d2"]
    assert not {"G@@@d3", "G@@@d4", "G@@@d5", "G@@@d6"} & set(offline)
    assert [found["client"] for found in running.items("/v1/clients", group="a")] == ["a@@@b@@@c"]
    assert [found["client"] for found in running.items("/v1/clients", group="")] == ["no-separator"]
    assert [found["client"] for found in running.items("/v1/clients", device="d/2")] == ["G/1@@@d/2"]
    assert running.items("/v1/clients", group="G", status="unknown") == []


def test_clients_are_matched_as_rules_match_them(running: Service) -> None:
    def named(*match: str) -> list[str]:
        return [found["client"] for found in running.items("/v1/clients", match=list(match))]

    assert named("device=d[01]") == ["G@@@d0", "G@@@d1"]
    assert named("client=re:G@@@d[56]") == ["G@@@d5", "G@@@d6"]
    assert named("site=north", "device=d0", "device=d3") == ["G@@@d0", "G@@@d3"]
    assert named("attributes.site=north", "device=x*") == []
    assert named("ip=10.0.0.0/24") == [CHAIN]


def test_alerts_and_deliveries_are_filtered(running: Service) -> None:
    assert {alert["rule"] for alert in running.items("/v1/alerts")} == {"gone", "refused"}
    firing = running.items("/v1/alerts", state="firing", rule="gone", client="G@@@d1")
    assert [(alert["client"], alert["state"], alert["resolved_at"]) for alert in firing] == [("G@@@d1", "firing", None)]
    assert running.items("/v1/alerts", state="resolved") == []
    of_alert = running.items("/v1/deliveries", alert=firing[0]["id"])
    assert [(sent["client"], sent["rule"], sent["state"]) for sent in of_alert] == [("G@@@d1", "gone", "delivered")]
    refused_ones = running.items("/v1/deliveries", rule="refused", client="G@@@d1")
    assert [sent["rule"] for sent in refused_ones] == ["refused"]
    assert {sent["state"] for sent in running.items("/v1/deliveries", state="dead")} == {"dead"}
    assert running.items("/v1/deliveries", client="nobody") == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/clients?limit=many", "`limit` must be a whole number, not 'many'"),
        ("/v1/clients?limit=0", "`limit` must be at least 1, not '0'"),
        ("/v1/clients?limit=" + "9" * 5_000, "`limit`"),
        ("/v1/clients?status=asleep", "`status` must be online, offline or unknown, not 'asleep'"),
        ("/v1/clients?satus=offline", "there is no parameter `satus` here"),
        ("/v1/clients?status=online&status=offline", "`status` is given more than once"),
        ("/v1/clients?match=device", "`device` is not key=pattern"),
        ("/v1/clients?match=colour=red", "`colour` is not a key of a match"),
        ("/v1/clients?match=device=re:(", "is not a valid RE2 expression"),
        ("/v1/clients?match=ip=north", "is not a network"),
        ("/v1/alerts?state=loud", "`state` must be"),
        ("/v1/alerts?cursor=x-y", "`cursor` must be the `next`"),
        ("/v1/alerts?cursor=99999999999999999999999999", "`cursor` must be the `next`"),
        ("/v1/deliveries?state=lost", "`state` must be"),
        ("/v1/deliveries?cursor=-1", "`cursor` must be the `next`"),
        ("/v1/deliveries?cursor=99999999999999999999999999", "`cursor` must be the `next`"),
        ("/v1/quarantine?cursor=%00", "`cursor` must be the `next`"),
        (f"/v1/clients/{CHAIN}/timeline?cursor=7", "`cursor` must be the `next`"),
        (f"/v1/clients/{CHAIN}/status?verify=perhaps", "`verify` must be true or false"),
        (f"/v1/clients/{CHAIN}/explanation?at=yesterday", "`at` must be a whole number"),
        ("/readyz?verbose=1", "takes no parameters"),
        ("/v1/rules?cursor=x", "`cursor` must be the `next`"),
    ],
)
def test_a_parameter_that_cannot_be_is_told_in_a_sentence(running: Service, path: str, said: str) -> None:
    assert said in refused(get(running, path), 400)


@pytest.mark.parametrize("path", LISTS)
def test_a_limit_beyond_the_most_is_refused_and_the_most_is_named(running: Service, path: str) -> None:
    assert refused(get(running, f"{path}?limit=1001"), 400) == "`limit` must be at most 1000, not '1001'"
    assert get(running, f"{path}?limit=1000").status == 200


# One client


@pytest.mark.parametrize("client", ODD_IDS)
def test_any_id_can_be_asked_for(running: Service, client: str) -> None:
    path = f"/v1/clients/{quote(client, safe='')}"
    assert get(running, path).json["client"] == client
    status = get(running, f"{path}/status").json
    assert (status["client"], status["online"]) == (client, True)
    assert [entry["kind"] for entry in get(running, f"{path}/timeline").json["items"]] == ["settled", "event"]
    assert get(running, f"{path}/explanation").json["client"] == client


def test_slashes_of_an_id_need_no_encoding_where_nothing_is_ambiguous(running: Service) -> None:
    assert get(running, "/v1/clients/G/1@@@d/2").json["client"] == "G/1@@@d/2"
    assert (
        refused(get(running, "/v1/clients/G@@@x/status"), 404)
        == "there is no client 'G@@@x': no event has ever named it"
    )


@pytest.mark.parametrize("client", ["x" * 1_000, "%E2%82%AC" * 90, "%01", "a%0Ab", "%C2%9B", "%00", "y" * 257])
def test_what_no_client_can_be_called_is_answered_in_one_short_sentence(running: Service, client: str) -> None:
    for path in ("", "/status", "/timeline", "/explanation"):
        said = refused(get(running, f"/v1/clients/{client}{path}"), 404)
        assert said.startswith("no client is called '") and len(said) < 250


def test_the_name_of_a_rule_that_does_not_exist_is_cut(running: Service) -> None:
    said = refused(get(running, f"/v1/rules/{'r' * 1_000}/why-not?client=a"), 404)
    assert said.startswith("there is no rule 'rrr") and len(said) < 150


def test_who_was_never_named_is_not_found(running: Service) -> None:
    for path in (
        "/v1/clients/nobody",
        "/v1/clients/nobody/status",
        "/v1/clients/nobody/timeline",
        "/v1/clients/%FF",
    ):
        assert "no event has ever named it" in refused(get(running, path), 404)


def test_a_status_is_a_belief_until_there_is_a_provider(running: Service) -> None:
    found = running.get("/v1/clients/G@@@d1/status")
    assert found.pop("age") >= 0
    assert found == {"client": "G@@@d1", "online": False, "connections": None, "source": "belief", "asked_at": None}
    assert "status provider" in refused(get(running, "/v1/clients/G@@@d1/status?verify=true"), 501)


def test_a_timeline_tells_what_each_event_changed_newest_first(running: Service) -> None:
    items = running.items("/v1/clients/G@@@d1/timeline")
    told = [(entry["kind"], entry.get("type") or entry["status"], entry.get("why")) for entry in items]
    assert told == [
        ("settled", "offline", None),
        ("event", "tcpclean", "closes its channel"),
        ("settled", "online", None),
        ("event", "connect", "the channel is live"),
    ]
    assert (items[0]["previous"], items[0]["first_seen"], items[2]["first_seen"]) == ("online", False, True)
    assert [entry["position"] for entry in items] == sorted((entry["position"] for entry in items), reverse=True)


def test_a_timeline_tells_what_was_ignored_and_why(running: Service) -> None:
    client = "G@@@late"
    at = now_ms()
    running.tell(event(client, "connect", "new", at - 1_000), event(client, "connect", "new", at - 1_000))
    running.tell(event(client, "tcpclean", "old", at - 40_000))
    told = [
        (e["type"], e["used"], e["why"])
        for e in running.items(f"/v1/clients/{client}/timeline")
        if e["kind"] == "event"
    ]
    assert told == [
        ("tcpclean", False, "of a channel that a newer connect has superseded"),
        ("connect", False, "a duplicate of an earlier event"),
        ("connect", True, "the channel is live"),
    ]
    evidence = running.get(f"/v1/clients/{client}/explanation")["evidence"]
    assert [(e["type"], e["used"]) for e in evidence] == [("connect", True), ("connect", False), ("tcpclean", False)]


def test_an_explanation_goes_back_in_time(running: Service) -> None:
    settled = running.items("/v1/clients/G@@@d2/timeline")[2]
    assert (settled["kind"], settled["status"]) == ("settled", "online")
    entries = running.items("/v1/clients/G@@@d2/timeline")
    at = _ms(entries[3]["at"])
    before = running.get("/v1/clients/G@@@d2/explanation", at=at)
    assert (before["status"], before["complete"], len(before["evidence"])) == ("online", True, 1)
    assert running.get("/v1/clients/G@@@d2/explanation")["status"] == "offline"
    assert "no event had named" in refused(get(running, "/v1/clients/G@@@d2/explanation?at=1000"), 404)


def _ms(instant: str) -> int:
    from engine.config.durations import parse_rfc3339

    return parse_rfc3339(instant)


def test_a_cursor_of_another_client_opens_nothing(running: Service) -> None:
    cursor = running.get(f"/v1/clients/{CHAIN}/timeline", limit=1)["next"]
    assert "for this client" in refused(get(running, f"/v1/clients/G@@@d1/timeline?cursor={cursor}"), 400)


def test_a_client_can_be_forgotten(running: Service) -> None:
    running.tell(event("G@@@brief/visit", "connect", "c"))
    path = "/v1/clients/G%40%40%40brief%2Fvisit"
    assert ask(running, "DELETE", path, Content_Type="application/json").json == {"client": "G@@@brief/visit"}
    refused(get(running, path), 404)
    refused(ask(running, "DELETE", path, Content_Type="application/json"), 404)
    assert "G@@@brief/visit" not in running.statuses()
    running.tell(event("G@@@brief/visit", "connect", "c2"))
    assert "G@@@brief/visit" in running.statuses()
    ask(running, "DELETE", path, Content_Type="application/json")


# Deliveries, quarantine


def test_a_delivery_shows_its_request(running: Service) -> None:
    number = running.items("/v1/deliveries", state="delivered")[0]["id"]
    found = running.get(f"/v1/deliveries/{number}")
    assert found["request"]["method"] == "POST"
    assert found["request"]["url"].endswith("/takes")
    for path in ("/v1/deliveries/0", "/v1/deliveries/" + "9" * 18, "/v1/deliveries/" + "9" * 40):
        assert "there is no delivery" in refused(get(running, path), 404)


def test_a_dead_delivery_is_retried_without_a_body(running: Service) -> None:
    number = running.items("/v1/deliveries", state="dead")[-1]["id"]
    before = running.get(f"/v1/deliveries/{number}")
    reply = ask(running, "POST", f"/v1/deliveries/{number}/retry", Content_Type="application/json")
    assert (reply.status, reply.json["id"], reply.json["state"]) == (200, number, "due")
    again = eventually(lambda: running.get(f"/v1/deliveries/{number}"), lambda found: found["state"] == "dead")
    assert again["attempts"] == before["attempts"] + 1
    assert "400" in again["last_error"]
    # What was before the retry is not forgotten.
    assert again["decided_at"] == before["decided_at"] and again["renewed_at"] is not None
    assert again["kept_attempts"][:-1] == before["kept_attempts"]
    (*_, last) = again["kept_attempts"]
    assert last["outcome"] == "rejected" and "400" in last["answer"] and last["duration"] >= 0


def test_acts_that_a_delivery_does_not_allow_are_refused(running: Service) -> None:
    number = running.items("/v1/deliveries", state="delivered")[0]["id"]
    for act in ("retry", "discard"):
        reply = ask(running, "POST", f"/v1/deliveries/{number}/{act}", Content_Type="application/json")
        assert f"delivery {number} is delivered" in refused(reply, 409)
    refused(ask(running, "POST", "/v1/deliveries/999999/retry", Content_Type="application/json"), 404)
    refused(ask(running, "POST", f"/v1/deliveries/{number}/burn", Content_Type="application/json"), 404)


def test_a_dead_delivery_is_discarded_for_good(running: Service) -> None:
    number = running.items("/v1/deliveries", state="dead")[0]["id"]
    reply = ask(running, "POST", f"/v1/deliveries/{number}/discard", b"{}", Content_Type="application/json")
    assert reply.json["state"] == "discarded"
    refused(ask(running, "POST", f"/v1/deliveries/{number}/retry", b"{}", Content_Type="application/json"), 409)


def test_the_quarantine_tells_why_and_can_be_retried(running: Service) -> None:
    items = running.items("/v1/quarantine")
    assert {entry["raw"] for entry in items} >= {"{broken", '{"clientId": 7}'}
    assert all(entry["reason"] and entry["source"] == "push" for entry in items)
    reply = ask(running, "POST", "/v1/quarantine/retry", Content_Type="application/json")
    assert reply.json == {"accepted": 0, "rejected": len(items)}


# The rest


def test_sources_and_rules_are_listed(running: Service) -> None:
    assert running.get("/v1/sources", limit=1)["next"] is None
    (source,) = running.get("/v1/sources")["items"]
    assert (source["name"], source["type"], source["connected"], source["gaps"]) == ("push", "http", True, [])
    rules = running.get("/v1/rules")
    assert [rule["name"] for rule in rules["items"]] == ["gone", "refused"]
    assert rules["problem"] is None


def test_what_does_not_exist_and_what_is_not_possible_are_problems(running: Service) -> None:
    assert refused(get(running, "/v2/clients"), 404) == "there is nothing at /v2/clients"
    refused(get(running, "/v1/clients/"), 404)
    reply = ask(running, "POST", "/v1/clients", Content_Type="application/json")
    assert refused(reply, 405) == "POST is not allowed here"
    assert reply.headers["allow"] == "GET"
    refused(ask(running, "OPTIONS", "/v1/clients"), 405)


def test_metrics_are_text_of_the_version_that_prometheus_reads(running: Service) -> None:
    reply = get(running, "/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE rollcall_clients gauge" in reply.text


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/v1/clients", "/v1/alerts", "/openapi.json"])
def test_head_says_what_get_would_without_the_body(running: Service, path: str) -> None:
    head = ask(running, "HEAD", path)
    assert (head.status, head.text) == (200, "")
    assert head.headers["content-type"] == get(running, path).headers["content-type"]


# Who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "127.0.0.1:x", "[::1", "", "10.1.2.3"]
)
def test_a_foreign_host_is_refused(running: Service, host: str) -> None:
    for path in ("/", "/healthz", "/v1/clients", "/metrics"):
        refused(ask(running, "GET", path, Host=host), 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]", "[::1]:9"])
def test_the_loopback_may_be_called_by_any_of_its_names(running: Service, host: str) -> None:
    assert ask(running, "GET", "/healthz", Host=host).status == 200


def test_a_foreign_origin_is_refused_and_our_own_is_not(running: Service) -> None:
    ours = f"http://127.0.0.1:{running.port}"
    for origin in (
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1:1",
        "file://",
        f"{ours}.evil.example",
        "http://[",
    ):
        refused(ask(running, "GET", "/v1/clients", Origin=origin), 403)
        refused(ask(running, "POST", "/v1/events", b"{}", Origin=origin, Content_Type="application/json"), 403)
    assert ask(running, "GET", "/v1/clients", Origin=ours).status == 200


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_write_that_a_form_could_send_is_refused(running: Service, kind: str) -> None:
    for method, path in (("POST", "/v1/events"), ("POST", "/v1/quarantine/retry"), ("DELETE", "/v1/clients/G@@@d1")):
        refused(ask(running, method, path, b"{}", Content_Type=kind), 415)
    assert "G@@@d1" in running.statuses()


# A service of its own


def test_with_a_token_everything_but_healthz_needs_it(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        (tmp_path / "token").write_text("s3cret\n")
        config = json.loads((tmp_path / "config.yaml").read_text())
        config["http"]["token"] = {"file": "token"}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        found.rules()
        found.start(ready=False)

        def ready() -> bool:
            try:
                return ask(found, "GET", "/readyz", Authorization="Bearer s3cret").status == 200
            except OSError:
                return False

        eventually(ready)
        assert ask(found, "GET", "/healthz").status == 200
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Basic !"},
        ):
            reply = ask(found, "GET", "/v1/clients", None, **headers)
            assert "token" in refused(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"
        assert ask(found, "GET", "/v1/clients", Authorization="bearer s3cret").status == 200
        asked = ask(found, "GET", "/")
        assert (asked.status, asked.headers["location"]) == (303, "/login")
        assert ask(found, "GET", "/", Authorization="Basic OnMzY3JldA==").status == 200
        assert found.command("sources").returncode == 0


def test_rules_that_do_not_load_are_shown(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.rules({"name": "fine", "trigger": "offline", "actions": [{"log": {"message": "x"}}]})
        found.start()
        found.rules({"name": "fine", "trigger": "ofline"})
        problem = eventually(lambda: found.get("/v1/rules")["problem"])
        assert "ofline" in problem
        assert "do not load" in get(found, "/").text
        assert [rule["name"] for rule in found.get("/v1/rules")["items"]] == ["fine"]
