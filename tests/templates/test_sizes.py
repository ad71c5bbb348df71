"""A whole request is bounded: what a rule may say when it is loaded, and what its texts may become when they are rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.rules import Action, Rule
from engine.delivery.rendering import render_row
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules
from engine.stores.base import MAX_REQUEST_CHARACTERS as STORED
from engine.stores.sqlite.store import SqliteStore
from engine.templates.rendered import Rendered
from engine.templates.renderer import Renderer, to_json
from engine.templates.request_budget import MAX_REQUEST_CHARACTERS
from engine.templates.sandbox.meter import METER
from engine.testing import delivery

LONG = "{{ alert.clients|join }}" + "x" * 8_000
SEEN: dict[str, Any] = {
    "client": {"id": "G@@@d1"},
    "status": "offline",
    "rule": {"name": "r"},
    "alert": {
        "clients": ["c" * 200] * 1_000,
        "count": 1,
        "trigger": "offline",
        "started_at": "2026-01-01T00:00:00.000Z",
    },
}


def rule_file(folder: Path, action: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(f"version: 1\nrules:\n- name: r\n  trigger: offline\n  actions:\n  - {action}\n")
    return path


@pytest.mark.parametrize("count", [40, 4_800, 18_000])
@pytest.mark.parametrize(
    "action",
    [
        "webhook: {{url: 'http://a.test/', json: {{a: &a '{long}', b: [{aliases}]}}}}",
        "command: {{to: 'G@@@d', payload: {{a: &a '{long}', b: [{aliases}]}}}}",
    ],
    ids=["webhook", "command"],
)
def test_aliases_are_counted_as_if_they_were_written_out(action: str, count: int, tmp_path: Path) -> None:
    written = action.format(long=LONG, aliases=", ".join(["*a"] * count))
    with pytest.raises(InvalidFiles, match=r"rules\.yaml:6:.*is larger than \d+ KiB, aliases .* counted as if"):
        load_rules([rule_file(tmp_path, written)])


def test_a_large_body_within_the_limit_loads(tmp_path: Path) -> None:
    path = rule_file(
        tmp_path, f"webhook: {{url: 'http://a.test/', json: {{a: &a '{LONG}', b: [{', '.join(['*a'] * 25)}]}}}}"
    )
    assert load_rules([path]).rules


def webhook(**spec: Any) -> Rendered:
    return Renderer().render(Action(kind="webhook", spec={"url": "http://a.test/", **spec}), SEEN)


def test_texts_that_are_too_long_together_are_replaced_by_short_ones_and_the_rest_stays() -> None:
    body = {"key": "K", "long": [LONG] * 300, "n": 5}
    rendered = webhook(json=body)
    request = rendered.request
    assert rendered.dead is None
    assert (request["json"]["key"], request["json"]["n"]) == ("K", 5)
    assert request["json"]["long"][0].startswith("ccc")
    assert request["json"]["long"][299] == "r: G@@@d1 is offline since 2026-01-01 00:00:00 UTC"
    assert f"more than {MAX_REQUEST_CHARACTERS} characters together" in str(rendered.problem)
    assert len(to_json(request)) < 2 * MAX_REQUEST_CHARACTERS


def test_texts_that_work_too_much_together_are_not_all_tried() -> None:
    costly = "{% for i in range(900) %}{% for j in range(100) %}{% endfor %}{% endfor %}"
    body = [costly + str(number) for number in range(200)]
    rendered = webhook(json=body)
    assert rendered.dead is None and rendered.request["json"][0] == "0"
    assert rendered.request["json"][199].startswith("r: G@@@d1 is offline")
    assert "do too much work together" in str(rendered.problem)
    METER.refill()


def test_what_the_store_could_not_keep_is_dead_with_the_reason_before_it_gets_there() -> None:
    class Huge(Renderer):
        def planned(self, planned: PlannedDelivery) -> Rendered:
            return Rendered(request={"json": "x" * (STORED + 1)}, target="t")

    action = Action(kind="log", spec={"message": "x"})
    rule = Rule(name="r", triggers=("offline",), actions=(action,))
    planned = PlannedDelivery(
        key="k", rule=rule, action=action, phase="firing", client="c", group_key=None, clients=None, alert="a", lane="l",
        at_ms=1, variables=SEEN,
    )  # fmt: skip
    row = render_row(Huge(), planned)
    assert (row.state, row.request) == ("dead", "{}")
    assert f"more than {STORED}" in str(row.error)


def test_a_store_writes_a_request_that_is_too_big_dead_and_the_others_of_the_batch_as_they_are(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    huge = json.dumps("x" * (STORED + 1))
    with store.transaction():
        rows = [delivery("a"), delivery("b", request=huge), delivery("c")]
        leaving = store.deliveries.add(rows)
    assert [item.key for item in leaving] == ["a", "c"]
    with store.reading() as reader:
        kept = {row.key: row for row in reader.deliveries(limit=9)}
    assert {key: row.state for key, row in kept.items()} == {"a": "due", "b": "dead", "c": "due"}
    assert "more than the store keeps" in str(kept["b"].last_error)
    store.close()
