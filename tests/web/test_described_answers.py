"""The OpenAPI document and the service agree: real answers are as described, and schemathesis finds nothing that is not.

schemathesis sends what the document allows (which must not be refused) and what it forbids (which must not be accepted), follows
identifiers from one operation to the next, and holds every status, header and body of an answer against the document.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

# How far apart two parameters may be.
[[operations]]
include-path-regex = "^/v1/fleet/"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400"]
"""
"""What a schema cannot say, each with its reason."""


@contextmanager
def with_some_of_everything(folder: Path) -> Iterator[Service]:
    """A service that can do everything, with some of everything; its log says nothing of an internal error in the end."""
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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with with_some_of_everything(tmp_path_factory.mktemp("described")) as found:
        yield found


TOKEN = "described-" + "x" * 30


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Service]:
    """The same with a token of the configuration, which nobody can remove: schemathesis makes users and removes tokens."""
    with with_some_of_everything(tmp_path) as found:
        found.terminate()
        config = json.loads((tmp_path / "config.yaml").read_text())
        (tmp_path / "token").write_text(TOKEN)
        config["http"]["token"] = {"file": "token"}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        found.start(ready=False)

        def readiness() -> int:
            try:
                return requests.get(f"{found.url}/readyz", headers=BEARER, timeout=30).status_code
            except requests.RequestException:
                return 0

        eventually(readiness, lambda status: status == 200)
        yield found


BEARER = {"Authorization": f"Bearer {TOKEN}"}


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


def addresses(running: Service, path: str) -> list[str]:
    """What to ask for a path of the document: all that the list before its parameter has, some queries, or the path itself."""
    if path in QUERIES:
        return QUERIES[path]
    start, _, rest = path.partition("{")
    if not rest:
        return [path]
    name = "client" if start == "/v1/clients/" else "name" if start == "/v1/rules/" else "id"
    rest = rest.partition("}")[2]
    items = running.items(start.rstrip("/"))[:20] if start != "/v1/acts/" else [{"id": 1}]
    return [f"{start}{quote(str(item[name]), safe='')}{rest}" for item in items]


QUERIES = {
    "/v1/why-not": ["/v1/why-not?client=G@@@d0"],
    "/v1/rules/{rule}/why-not": ["/v1/rules/gone/why-not?client=G@@@d0"],
    "/v1/clients/{client}/status": ["/v1/clients/G%40%40%40d4/status?verify=true", "/v1/clients/G%40%40%40d0/status"],
}
"""Paths that are asked in another way than by the list before them."""


def test_real_answers_have_what_is_described_and_nothing_else(running: Service) -> None:
    document = running.get("/openapi.json")
    components = closed(document["components"])
    answered = set()
    for path, methods in document["paths"].items():
        for address in addresses(running, path) if "get" in methods else ():
            answer = requests.get(running.url + address, timeout=30)
            told = methods["get"]["responses"][str(answer.status_code)]
            if answer.status_code != 200 or "json" not in answer.headers["content-type"]:
                continue
            schema = told["content"]["application/json"]["schema"] | {"components": components}
            errors = Draft202012Validator(schema).iter_errors(answer.json())
            wrong = [f"{error.json_path}: {error.message}" for error in errors]
            assert not wrong, (address, wrong[:5])
            answered.add(path)
    simple = {path for path, methods in document["paths"].items() if "get" in methods and "{" not in path}
    assert simple - answered == {"/metrics"}
    assert len(answered - simple) >= 9, answered


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


# The page for people


def test_the_page_of_the_interface_names_everything_and_loads_nothing_from_elsewhere(running: Service) -> None:
    answer = requests.get(f"{running.url}/docs", timeout=30)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.text
    document = running.get("/openapi.json")
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert f'<details id="{told["operationId"]}">' in text
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in text
            for parameter in told.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in text
    anchors = set(re.findall(r' id="([^"]+)"', text))
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= anchors
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


# schemathesis


LONG_SEED = 3_550_084_409
"""The same each time, so that what fails was changed; `SCHEMATHESIS_SEED` looks elsewhere."""


def run_schemathesis(running: Service, folder: Path, examples: int, seed: int) -> None:
    (folder / "schemathesis.toml").write_text(KNOWN_DIFFERENCES)
    words = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", "schemathesis.toml", "run", f"{running.url}/openapi.json", "--no-color", "--continue-on-failure",
        "-H", f"Authorization: Bearer {TOKEN}", "--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "60",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.web.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=2_000, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-20_000:]


def test_schemathesis_finds_no_difference(guarded: Service, tmp_path: Path) -> None:
    run_schemathesis(guarded, tmp_path, 5, 1)


@pytest.mark.long
@pytest.mark.timeout(2_400)
def test_schemathesis_finds_no_difference_for_long(guarded: Service, tmp_path: Path) -> None:
    run_schemathesis(guarded, tmp_path, 100, int(os.environ.get("SCHEMATHESIS_SEED", LONG_SEED)))
