"""The OpenAPI document and the service agree: real answers are as described, and schemathesis finds nothing that is not.

schemathesis sends what the document allows (which must not be refused) and what it forbids (which must not be accepted), follows
identifiers from one operation to the next, and holds every status, header and body of an answer against the document.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from jsonschema import Draft202012Validator

from tests.acceptance.service import Answer, Service, event, eventually, now_ms, offline_rule, sink
from tests.queries.serving import querying, sweep
from tests.status.standin import StandIn

ROOT = Path(__file__).parents[2]

KNOWN_DIFFERENCES = """
# A silence that was ended stays, with its end.
[[operations]]
include-path = "/v1/silences/{id}"
[operations.checks.use_after_free]
enabled = false

# The cursor of one client's history is a number like that of another's, but is refused there.
[[operations]]
include-path = "/v1/clients/{client}/timeline"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404"]
"""
"""What a schema cannot say, each with its reason."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that can do everything, with some of everything; its log says nothing of an internal error in the end."""
    folder = tmp_path_factory.mktemp("described")
    (folder / "inventory.csv").write_text("client,site\nG@@@d*,north\n")
    with StandIn() as broker, sink() as target, querying(folder, broker, inventory="inventory.csv") as found:
        target.answer = lambda arrival: Answer(status=400 if arrival.path == "/refuses" else 204)
        found.rules(
            offline_rule(target.url + "/takes", match={"device": "d*"}),
            offline_rule(target.url + "/refuses", "refused", match={"device": "d*"}, recovery=False),
        )
        found.start()
        found.tell(*(event(f"G@@@d{n}", "connect", f"c{n}", now_ms() - 5_000) for n in range(6)))
        found.tell(*(event(f"G@@@d{n}", "tcpclean", f"c{n}") for n in range(3)))
        found.tell(event("G@@@d3", "disconnect", "c3"))
        found.post("{broken", '{"clientId": 7}')
        broker.truth["G@@@d4"] = 1
        sweep(found)
        silence = {"match": {"group": "H"}, "for": "1h", "author": "Zoë", "comment": "new pumps"}
        assert found.send("POST", "/v1/silences", silence).status_code == 201
        eventually(lambda: found.items("/v1/deliveries", state="dead"), lambda dead: len(dead) > 2)
        eventually(lambda: found.items("/v1/deliveries", state="delivered"), lambda sent: len(sent) > 2)
        yield found
        for name in ("http.failed", "internal.fault", "task.failed", "writer.poisoned"):
            assert found.log_lines(name) == []


# Real answers


def closed(schema: Any) -> Any:
    """The same schema without any member that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if "properties" in found and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def addresses(running: Service) -> Iterator[tuple[str, str]]:
    """(path of the document, path to ask) of everything that can be read."""
    lists = (
        "clients",
        "alerts",
        "silences",
        "deliveries",
        "quarantine",
        "sources",
        "quality",
        "rules",
        "reconciliations",
    )
    yield from ((f"/v1/{name}", f"/v1/{name}") for name in lists)
    yield from ((path, path) for path in ("/healthz", "/readyz"))
    for client in ("G@@@d0", "G@@@d3", "G@@@d4"):
        for rest in ("", "/status", "/timeline", "/explanation"):
            yield "/v1/clients/{client}" + rest, f"/v1/clients/{quote(client, safe='')}{rest}"
    yield "/v1/clients/{client}/status", f"/v1/clients/{quote('G@@@d4', safe='')}/status?verify=true"
    yield "/v1/rules/{rule}/why-not", "/v1/rules/gone/why-not?client=G@@@d0"
    yield "/v1/reconciliations/{number}", "/v1/reconciliations/1"
    for name, key in (("alerts", "id"), ("silences", "id"), ("deliveries", "number")):
        yield from ((f"/v1/{name}/{{{key}}}", f"/v1/{name}/{one['id']}") for one in running.items(f"/v1/{name}")[:20])


def test_real_answers_have_what_is_described_and_nothing_else(running: Service) -> None:
    document = running.get("/openapi.json")
    components = closed(document["components"])
    asked = set()
    for path, address in addresses(running):
        answer = requests.get(running.url + address, timeout=30)
        told = document["paths"][path]["get"]["responses"][str(answer.status_code)]
        assert answer.status_code == 200, (address, answer.text)
        schema = told["content"]["application/json"]["schema"] | {"components": components}
        wrong = [
            f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(answer.json())
        ]
        assert not wrong, (address, wrong[:5])
        asked.add(path)
    reads = {path for path, methods in document["paths"].items() if "get" in methods}
    assert reads - asked == {"/metrics", "/v1/acts/{number}"}, (
        "these answers are not compared: name them in `addresses`"
    )


def test_an_alert_is_shown_as_a_whole(running: Service) -> None:
    for rule, outcome in (("gone", "delivered"), ("refused", "rejected")):
        alert = running.items("/v1/alerts", rule=rule, client="G@@@d1")[-1]
        found = running.get(f"/v1/alerts/{alert['id']}")
        assert alert.items() <= found.items()
        assert [step["what"] for step in found["life"]][:3] == ["started", "fired", "firing"]
        first = found["deliveries"][0]
        assert found["life"][2]["deliveries"] == [first["id"]]
        assert (first["phase"], first["kept_attempts"][0]["outcome"]) == ("firing", outcome)
    assert requests.get(f"{running.url}/v1/alerts/none", timeout=30).status_code == 404


# schemathesis


def run_schemathesis(running: Service, folder: Path, examples: int, seed: int) -> None:
    (folder / "schemathesis.toml").write_text(KNOWN_DIFFERENCES)
    words = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", "schemathesis.toml", "run", f"{running.url}/openapi.json", "--no-color", "--continue-on-failure",
        "--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "60",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.web.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=2_000, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-20_000:]


def test_schemathesis_finds_no_difference(running: Service, tmp_path: Path) -> None:
    run_schemathesis(running, tmp_path, 5, 1)


@pytest.mark.long
@pytest.mark.timeout(2_400)
def test_schemathesis_finds_no_difference_for_long(running: Service, tmp_path: Path) -> None:
    run_schemathesis(running, tmp_path, 100, random.randrange(1 << 32))
