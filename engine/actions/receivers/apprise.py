"""The services that Apprise knows, about 150: by an Apprise address in `url`. It is an optional extra: `pip install "rollcall-presence[apprise]"`.

Written from appriseit.com: "Development API" (`Apprise.add`, `Apprise.notify` with `title`, `body`, `notify_type`, `body_format`). The library sends by
itself and says only whether that worked, so every failure is tried again; it cuts what is too long for a service. `send` blocks: it is called in a
thread of the process that sends webhooks.

The text is passed as plain text, and Apprise escapes it for services that want HTML. What a service makes of names such as `@all` in plain text is the
service's own: a zero-width character is never added, `@` is shown as its full-width twin.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from engine.actions.receivers.answers import DELIVERED, later, shown
from engine.actions.receivers.base import RECOVERY, Message, Rate, Settings
from engine.actions.receivers.wording import fitted, footer, links, marked_title
from engine.core.delivery import Answer, Rejected, RetryLater
from engine.telemetry import silence_library

MAX_CHARS: Final = 30_000
rate: Final = Rate(messages=1, per_s=1)

_TYPES: Final = {"critical": "failure", "warning": "warning", "info": "info"}


def target(settings: Settings) -> str:
    """The kind of service: the rest of the address is a secret."""
    return f"apprise://{urlsplit(settings['url']).scheme}"


def problem() -> str | None:
    """Why Apprise cannot be used; None when it can."""
    try:
        import apprise  # noqa: F401  # an optional extra
    except ImportError as error:
        return f'Apprise is not installed ({error}): pip install "rollcall-presence[apprise]"'
    return None


def send(message: Message, settings: Settings) -> Answer:
    """Send one message; takes as long as the service takes. Never raises."""
    missing = problem()
    if missing is not None:
        return RetryLater(reason=missing, our_fault=True)
    try:
        return _sent(message, settings)
    except Exception as error:  # noqa: BLE001  # a plugin of the library may raise anything
        return later(f"Apprise: {type(error).__name__}: {shown(str(error))}", may_have_arrived=True)


def _sent(message: Message, settings: Settings) -> Answer:
    import apprise  # an optional extra

    silence_library("apprise")  # it logs addresses, which are secrets
    sender: Any = apprise.Apprise()
    if not sender.add(settings["url"]):
        return Rejected(reason="Apprise does not know the address in `url`: see its list of services")
    body = fitted(message, lambda lines: _text(message, lines), lambda made: len(made) <= MAX_CHARS)
    kind = "success" if message.phase == RECOVERY else _TYPES.get(message.severity, "warning")
    taken = sender.notify(title=_harmless(marked_title(message)), body=body, notify_type=kind, body_format="text")
    return DELIVERED if taken else later("Apprise could not send it; it does not say why", may_have_arrived=True)


def _text(message: Message, lines: list[str]) -> str:
    addresses = [f"{name}: {link}" for name, link in links(message)]
    return "\n".join([*[_harmless(line) for line in lines], "", *addresses, _harmless(footer(message))])


def _harmless(text: str) -> str:
    return text.replace("@", "\N{FULLWIDTH COMMERCIAL AT}").replace("<", "\N{FULLWIDTH LESS-THAN SIGN}")
