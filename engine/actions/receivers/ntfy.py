"""ntfy, of ntfy.sh or a server of one's own.

Written from docs.ntfy.sh: "Publishing: publish as JSON, message priority, tags, click action, action buttons, authentication, limitations" (4,096
bytes a message; a longer one would become an attachment) and the codes of its errors (429 with 42901 and the like).

- **Success:** 200 with the message as JSON.
- **Rate:** a visitor of ntfy.sh has 60 requests at once and one more every five seconds.
- **Hostile texts:** a message is plain text unless Markdown is asked for, which we do not. The apps make links of written-out addresses; nothing
  prevents that.
- **Identity:** none that every server knows; each message ends with the incident's id.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from engine.actions.receivers.answers import by_status, is_page, json_of, not_the_service, shown
from engine.actions.receivers.base import RECOVERY, HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import fitted, footer, links, title_of
from engine.core.delivery import Answer

URL: Final = "https://ntfy.sh"
MAX_BYTES: Final = 4096
TITLE_CHARS: Final = 200

_PRIORITIES: Final = {"critical": 5, "warning": 4, "info": 3}
_TAGS: Final = {"critical": "rotating_light", "warning": "warning", "info": "information_source"}


class Ntfy:
    """See the module."""

    rate = Rate(messages=60, per_s=300)

    def target(self, settings: Settings) -> str:
        """The host: a topic may be a secret."""
        return f"ntfy://{host_of(settings.get('url') or URL)}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One message to the topic."""
        is_over = message.phase == RECOVERY
        sent: dict[str, Any] = {
            "topic": settings["topic"],
            "title": title_of(message, TITLE_CHARS),
            "message": fitted(
                message, lambda lines: _text(message, lines), lambda made: len(made.encode()) <= MAX_BYTES
            ),
            "priority": 3 if is_over else _PRIORITIES.get(message.severity, 3),
            "tags": ["white_check_mark" if is_over else _TAGS.get(message.severity, "warning")],
        }
        if addresses := links(message):
            sent["click"] = addresses[0][1]
            sent["actions"] = [{"action": "view", "label": name, "url": link} for name, link in addresses]
        headers = {"Content-Type": "application/json", **_authorization(settings)}
        return HttpRequest(
            method="POST", url=settings.get("url") or URL, headers=headers, body=json.dumps(sent).encode()
        )

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By status; `error` says why."""
        if 200 <= answer.status < 300:
            return not_the_service(answer) if is_page(answer) else by_status(answer)
        said = (json_of(answer) or {}).get("error")
        return by_status(answer, shown(said) if isinstance(said, str) else None)


def _authorization(settings: Settings) -> dict[str, str]:
    if token := settings.get("token"):
        return {"Authorization": f"Bearer {token}"}
    if "username" not in settings:
        return {}
    pair = f"{settings['username']}:{settings.get('password', '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _text(message: Message, lines: list[str]) -> str:
    return "\n".join([*lines, *([""] if lines else []), footer(message)])


SERVICE: Final = Ntfy()
