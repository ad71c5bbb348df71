"""The rules that the benchmarks load: what an ops team would have, and two thousand-strong variations.

Event times lie in a backlog, where nothing may be called offline before the end of the file is reached. What fires while
the file is read are first connects: `ten` logs those of fifteen of the fifty sites (3 % of a day's events).
"""

from __future__ import annotations

from typing import Any

from tests.benchmarks.load import GROUPS

Rule = dict[str, Any]

WELCOMED_SITES = 15
"""Sites whose first connects are logged: three in ten clients."""

RULES_PER_SITE = 20


def _site(number: int) -> str:
    return f"GID_SITE{number:02d}"


def _log(message: str) -> list[Rule]:
    return [{"log": {"message": message}}]


def _welcome(name: str, groups: list[str]) -> Rule:
    message = "{{ client.id }} of {{ client.group }} connected for the first time, from {{ client.ip }}"
    return {"name": name, "trigger": "first_seen", "match": {"group": groups}, "actions": _log(message)}


def _dark(name: str, match: Rule, lasts: str, **more: Any) -> Rule:
    actions = _log("{{ client.id }} is offline since {{ occurred_at }}")
    back = _log("{{ client.id }} is back after {{ duration }} s")
    return {
        "name": name,
        "trigger": "offline",
        "for": lasts,
        "match": match,
        "actions": actions,
        "on_recovery": back,
    } | more


def ten() -> list[Rule]:
    """Ten rules of every kind, one of which fires while the file is read."""
    return [
        _welcome("new-client", [_site(number) for number in range(WELCOMED_SITES)]),
        _dark("pump-offline", {"device": "pump-*"}, "5m", severity="critical"),
        _dark("valve-offline", {"device": "valve-*", "group": "re:GID_SITE[0-3][0-9]"}, "10m"),
        _dark("cam-offline", {"device": ["cam-*"]}, "15m", throttle={"max": 20, "per": "1h", "by": ["group"]}),
        _dark("meter-vanished", {"device": "meter-*"}, "30m", condition="not graceful"),
        _dark("pilot-site", {"client": "GID_SITE07@@@*"}, "1m", severity="info", labels={"team": "pilot"}),
        {
            "name": "restless",
            "trigger": "online",
            "condition": "flaps > 20",
            "match": {"device": "pump-*"},
            "actions": _log("{{ client.id }} is back and has flapped {{ flaps }} times"),
        },
        {
            "name": "flapping",
            "trigger": "flapping",
            "match": {"group": _site(7)},
            "throttle": {"max": 10, "per": "1h"},
            "actions": _log("{{ client.id }} flaps"),
        },
        {
            "name": "twice",
            "trigger": "duplicate",
            "match": {"group": _site(8), "device": "meter-*"},
            "actions": _log("{{ client.id }} is connected twice"),
        },
        {
            "name": "foreign",
            "trigger": ["first_seen", "online"],
            "match": {"ip": ["192.0.2.0/24", "2001:db8::/32"]},
            "actions": _log("{{ client.id }} comes from {{ client.ip }}"),
        },
    ]


def _site_rules(number: int) -> list[Rule]:
    site = _site(number)
    ways: list[Rule] = [{"group": site}, {"client": f"{site}@@@*"}, {"group": f"re:{site}"}]
    rules = [
        _dark(f"dark-{number}-{turn}", ways[turn % len(ways)], f"{turn + 1}m", labels={"site": site})
        for turn in range(RULES_PER_SITE - 4)
    ]
    for turn in range(3):
        name, text = f"restless-{number}-{turn}", "{{ client.id }} has flapped {{ flaps }} times"
        rules.append(
            {
                "name": name,
                "trigger": "online",
                "condition": f"flaps > {20 + turn}",
                "match": ways[turn],
                "actions": _log(text),
            }
        )
    if number < WELCOMED_SITES:
        return [*rules, _welcome(f"new-{number}", [site])]
    return [*rules, _dark(f"dark-{number}-last", {"group": site}, "1h")]


def thousand() -> list[Rule]:
    """A thousand rules: twenty match each client, and exactly the clients of `ten` fire while the file is read."""
    return [rule for number in range(GROUPS) for rule in _site_rules(number)]


def everyone_to(url: str) -> list[Rule]:
    """`ten`, but every client's first connect becomes a webhook to `url` instead of some a log line."""
    body = {
        "text": "{{ client.id }} connected for the first time",
        "client": "{{ client.id }}",
        "at": "{{ occurred_at }}",
    }
    hook = {"name": "new-client", "trigger": "first_seen", "actions": [{"webhook": {"url": url, "json": body}}]}
    return [hook, *ten()[1:]]


def back_online_to(url: str) -> list[Rule]:
    """One rule: a webhook to `url` as soon as a client is back."""
    body = {"client": "{{ client.id }}", "status": "{{ status }}", "since": "{{ since }}"}
    return [{"name": "back", "trigger": "online", "actions": [{"webhook": {"url": url, "json": body}}]}]
