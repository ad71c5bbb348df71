"""Random actions of rules: every kind, every key, and templates over everything that a rule of that sort may read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Action = dict[str, Any]

FILES = {
    "mail.txt.j2": "{{ rule.name }} says: {{ alert.state }}{% if alert.reason %} ({{ alert.reason }}){% endif %}\n",
    "mail.html.j2": "<p><b>{{ rule.name }}</b> {{ alert.clients | join(', ') }} {{ alert.key }}</p>\n",
}
"""Template files that lie beside the rules."""

ANY = (
    "plain words",
    "{{ rule.name }} {{ rule.severity }} {{ rule.description }}",
    "{{ alert.state }} since {{ alert.started_at }} {{ alert.id }} {{ alert.reason }}",
    "{{ alert.count }}: {{ alert.clients | join(', ') }}",
    "{{ alert.key }} {{ alert.unverified }}",
    "{% if alert.unverified %}unverified {% endif %}{{ rule.name | upper }}",
)
OF_A_CLIENT = (
    *ANY,
    "{{ client.id }} is {{ status }}, it was {{ previous }}",
    "{{ client.device }} of {{ client.group }} at {{ client.ip }} ({{ client.attributes.site }})",
    "{{ occurred_at }} {{ since }} {{ settled_at }} {{ duration }} s",
    "{{ duration | round(1) }} {{ graceful }} {{ flaps }} {{ flapping }}",
    "{{ doubtful }} {{ verified_at }}",
    "{% for step in evidence %}{{ step.type }}@{{ step.time }} {{ step.channel }} {{ step.used }} {{ step.why }};{% endfor %}",
    "{{ 10 // flaps }} takes a number that may be zero",
    "{{ evidence[7].type }}{{ client.attributes.owner | default('nobody', true) }}",
    '{{ client.device | upper }} "quoted" \\ {{ status | length }}',
)
OF_MANY = (
    *ANY,
    "{{ alert.shared }} {% for one in alert.members %}{{ one.id }}={{ one.status }} {{ one.since }};{% endfor %}",
    "{{ alert.members | map(attribute='device') | join('+') }}",
    "{% for one in alert.members %}{{ one.group }}/{{ one.ip }}/{{ one.attributes.site }}/{{ one.occurred_at }} {% endfor %}",
)
OF_A_GROUP = (*OF_A_CLIENT, *OF_MANY)
OF_AN_OUTAGE = (
    *OF_MANY,
    "{{ alert.back }} of {{ alert.total }} back, {{ alert.count }} down",
    "{{ occurred_at }} {{ since }} {{ settled_at }} {{ duration }} {{ status }} {{ previous }}",
)
OF_A_SCHEDULE = (*OF_MANY, "{{ occurred_at }} {{ since }} {{ settled_at }} {{ duration }}")
OF_A_FEED = (*ANY, "{{ alert.source }}: {{ alert.detail }}")

TEXTS = {
    "client": OF_A_CLIENT,
    "group": OF_A_GROUP,
    "outage": OF_AN_OUTAGE,
    "schedule": OF_A_SCHEDULE,
    "feed": OF_A_FEED,
}
"""Templates by what a rule's alerts are about."""

OF_RULE = "{{ rule.name }}"


def actions(random: Random, about: str) -> list[Action]:
    """One to three actions, whose templates read what is known where an alert is about `about`."""
    kinds: Sequence[Callable[[Random, str], Action]] = (_log, _log, _webhook, _webhook, _email, _command)
    return [random.choice(kinds)(random, about) for _ in range(random.choice([1, 1, 1, 2, 3]))]


def _text(random: Random, about: str) -> str:
    return random.choice(TEXTS[about])


def _subject(about: str) -> str:
    """A template for the one that an alert is about; it ends up in URLs and recipients."""
    return "{{ client.id }}" if about in ("client", "group") else OF_RULE


def _log(random: Random, about: str) -> Action:
    return {"log": {"message": _text(random, about)}}


def _webhook(random: Random, about: str) -> Action:
    hook: dict[str, Any] = {"url": random.choice(_urls(about))}
    if random.random() < 0.3:
        hook["method"] = random.choice(["PUT", "PATCH", "DELETE", "GET"])
    if random.random() < 0.5:
        hook["headers"] = {"X-Text": _text(random, about), "Authorization": "Bearer {{ secrets.pager }}"}
    body = random.random()
    if body < 0.6:
        hook["json"] = {
            "text": _text(random, about),
            "more": [_text(random, about), 3, None, True, {"deep": _text(random, about)}],
        }
    elif body < 0.85:
        hook["body"] = _text(random, about)
    if random.random() < 0.2:
        hook |= {"timeout": "3s", "ok": [200, 409], "sign": "pager"}
    return {"webhook": hook}


def _urls(about: str) -> list[str]:
    name = _subject(about)
    found = [
        "http://127.0.0.1:9/hook",
        f"https://pager.example.com/v1/{name}?source={OF_RULE}",
        f"https://pager.example.com/{name}/x/{name}",
        "https://[2001:db8::1]:8443/{{ secrets.pager }}",
    ]
    return [*found, "https://pager.example.com/{{ client.device }}/end"] if name != OF_RULE else found


def _email(random: Random, about: str) -> Action:
    mail: dict[str, Any] = {"to": random.choice(_recipients(about))}
    if random.random() < 0.3:
        mail["cc"] = ["duty@example.com", "boss@example.com"]
    if random.random() < 0.5:
        mail["subject"] = _text(random, about)
    form = random.random()
    if form < 0.3:
        mail["text"] = _text(random, about)
    elif form < 0.6:
        mail["template"] = random.choice(["firing", "recovery", "clients", "mail.txt.j2"])
    if random.random() < 0.3:
        mail["html"] = random.choice([f"<p>{_text(random, about)}</p>", "mail.html.j2"])
    return {"email": mail}


def _recipients(about: str) -> list[Any]:
    found: list[Any] = ["ops@example.com", ["ops@example.com", "{{ rule.name }}@example.com"]]
    if about in ("client", "group"):
        return [*found, "{{ client.attributes.owner }}", ["{{ client.attributes.owner }}", "night@example.com"]]
    return found


def _command(random: Random, about: str) -> Action:
    command: dict[str, Any] = {"to": random.choice(["GID_GW@@@gw-1", f"GID_GW@@@{_subject(about)}"])}
    if about in ("client", "group"):
        command["to"] = random.choice([command["to"], "GID_GW@@@{{ client.attributes.gateway }}", "{{ client.id }}"])
    command["payload"] = random.choice(
        [_text(random, about), {"do": "restart", "because": _text(random, about), "times": [1, _text(random, about)]}]
    )
    if random.random() < 0.4:
        command["qos"] = random.choice([0, 1, 2])
    if random.random() < 0.4:
        command["expires"] = random.choice(["5s", "30s", "10m"])
    if random.random() < 0.4:
        command["via"] = random.choice(["mqtt", "rocketmq"])
    return {"command": command}
