"""The summary that is sent when `deliveries.burst` stops a rule: by the rule's first action, in the shape that its receiver expects.

The texts of that action are about a client, and a summary is not. Constants, other values and the shape of the body stay; a text
about a client says what is held instead, and one that is only a value of a client (an id, a key) is the rule's name.
Read `for_rendering`, then `_shaped`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jinja2 import nodes

from engine.core.alerting.planned_delivery import PHASE_SUMMARY, PlannedDelivery
from engine.core.rules import Action
from engine.templates.compiler import TemplateProblem, parse

_DETAIL: Final = "{{ alert.detail }}"
_NAME: Final = "{{ rule.name }}"

_TRUE_OF_A_SUMMARY: Final = frozenset({"id", "state", "reason", "started_at", "url"})
"""What a text may read of `alert` and still be true."""

_VALUES: Final = {
    **dict.fromkeys(("occurred_at", "since", "settled_at"), "{{ alert.started_at }}"),
    **dict.fromkeys(("duration", "flaps"), "0"),
    **dict.fromkeys(("status", "previous"), "{{ alert.state }}"),
}
"""What stands in a summary where a text is one of these variables and nothing else."""

_FOR_PEOPLE: Final = frozenset({"text", "summary", "message", "title", "description", "content", "body", "details"})
"""Keys under which services show a text to people."""


def for_rendering(planned: PlannedDelivery) -> PlannedDelivery:
    """The delivery as it is rendered: with an action and words of its own when it is a summary, otherwise unchanged."""
    if planned.phase != PHASE_SUMMARY:
        return planned
    alert, name = planned.variables["alert"], planned.rule.name
    held = (
        f"more than {alert['limit']} deliveries in a minute: the rest is held, {alert['count']} so far. "
        f"`rollcall deliveries release` sends what is held, `rollcall deliveries discard` drops it."
    )
    shown = {key: value for key, value in alert.items() if key != "limit"} | {"detail": f"{name} decided {held}"}
    variables = {**planned.variables, "alert": shown}
    body = planned.action.spec.get("body") if planned.action.kind == "webhook" else None
    if body is not None:
        variables |= _stand_ins(body, name, held, str(alert["started_at"]))
        variables["alert"] = shown | {"key": dict.fromkeys(_read_of(body, "alert", "key"), name)}
    return planned.evolve(action=_summary_action(planned.action), variables=variables)


def _summary_action(action: Action) -> Action:
    spec: dict[str, Any] = dict(action.spec)
    if action.kind == "webhook":
        url = spec["url"]
        if "{{ client" in url or "{{client" in url or "{%" in url:  # there is no client: cut at the last whole segment
            spec["url"] = url.split("{", 1)[0].rpartition("/")[0] + "/"
        headers = spec.get("headers", {})
        spec["headers"] = {name: value for name, value in headers.items() if "{" not in value or "secrets." in value}
        if "body" not in spec:
            spec["json"] = _summary_json(spec.get("json"))
        return Action(kind="webhook", spec=spec)
    if action.kind == "email":
        for key in ("template", "html"):
            spec.pop(key, None)
        return Action(kind="email", spec=spec | {"subject": f"{_NAME}: deliveries are held", "text": _DETAIL})
    if action.kind == "notify":
        return action  # what receivers are sent of a summary has a text of its own
    return Action(kind="log", spec={"message": _DETAIL})  # a command is for a device, not for people


def _summary_json(written: Any) -> Any:
    """The body of an action with the words of a summary, and at least one text that says what is held."""
    shaped = _shaped(written, for_people=False)
    if _DETAIL in _texts(shaped):
        return shaped
    shaped = _shaped(written, for_people=True)
    if _DETAIL not in _texts(shaped):
        shaped = {**(shaped if isinstance(shaped, Mapping) else {}), "text": _DETAIL}
    return shaped


def _shaped(value: Any, *, for_people: bool, key: str = "") -> Any:
    """A JSON value with the templates of a summary. `for_people`: constants that services show are replaced as well."""
    if isinstance(value, Mapping):
        return {name: _shaped(entry, for_people=for_people, key=name) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shaped(entry, for_people=for_people, key=key) for entry in value]
    if not isinstance(value, str):
        return value
    if "{" not in value:
        return _DETAIL if for_people and key.lower() in _FOR_PEOPLE else value
    return _summary_template(value)


def _summary_template(source: str) -> str:
    """What stands in a summary where a template stands in the action."""
    try:
        tree = parse(source)
    except TemplateProblem:
        return _DETAIL
    names = {name.name for name in tree.find_all(nodes.Name)}
    if names <= {"rule", "alert"} and _reads(tree, "alert") <= _TRUE_OF_A_SUMMARY:
        return source
    output = tree.body[0] if len(tree.body) == 1 else None
    only = output.nodes[0] if isinstance(output, nodes.Output) and len(output.nodes) == 1 else None
    if isinstance(only, nodes.Name):
        return _VALUES.get(only.name, _DETAIL)
    return _NAME if isinstance(only, nodes.Getattr) else _DETAIL


def _reads(tree: nodes.Node, name: str) -> set[str]:
    """The attributes that a template reads of a variable; the variable's own name when it is read as a whole."""
    whole = sum(found.name == name for found in tree.find_all(nodes.Name))
    read = [
        str(found.attr)
        for found in tree.find_all(nodes.Getattr)
        if isinstance(found.node, nodes.Name) and found.node.name == name
    ]
    return {*read, name} if whole > len(read) else set(read)


def _read_of(source: str, name: str, attribute: str) -> set[str]:
    """The names after `client.attributes.` (or the like) in a template."""
    try:
        found = parse(source).find_all(nodes.Getattr)
    except TemplateProblem:
        return set()
    return {
        node.attr
        for node in found
        if isinstance(node.node, nodes.Getattr)
        and node.node.attr == attribute
        and isinstance(node.node.node, nodes.Name)
        and node.node.node.name == name
    }


def _stand_ins(body: str, name: str, held: str, at: str) -> dict[str, Any]:
    """Variables for a `body`, which is one text whose shape nobody knows: where a client's id stands, the rule's name does."""
    client = {"id": name, "group": "", "device": name, "ip": ""}
    return {
        "client": client | {"attributes": dict.fromkeys(_read_of(body, "client", "attributes"), "")},
        "status": f"held: {held}",
        "previous": "",
        **dict.fromkeys(("occurred_at", "since", "settled_at"), at),
        **dict.fromkeys(("duration", "flaps"), 0),
        **dict.fromkeys(("graceful", "flapping", "doubtful"), False),
        "verified_at": None,
        "evidence": [],
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(entry)
