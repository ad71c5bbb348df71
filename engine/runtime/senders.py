"""What carries out actions, by their kind: made from the configuration, started and closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from engine.actions.base import ActionSender, BatchSender, MaySend, OutboxItem, always
from engine.actions.configured import connection_setup, receiver_setups
from engine.actions.log import LogSender, Written
from engine.actions.notify_dispatch import MailReceiver, NotifyDispatch
from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION, ConnectionSetup
from engine.actions.webhook.sender import SenderProcess
from engine.clock import Clock
from engine.config.loader import Config
from engine.config.receivers import EMAIL
from engine.runtime.command_sender import command_sender
from engine.telemetry import Event, log_all

if TYPE_CHECKING:
    from engine.actions.email.sender import MailSender


class Senders:
    """The senders of one service. `start` them on the event loop, `close` them when nothing is under way."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        may_send: MaySend = always,
        send_until_s: Callable[[], float] | None = None,
    ) -> None:
        """`may_send`: asked of what leaves this process; `send_until_s`: until when something may leave others (`engine.clock.running_ms`, s)."""
        secrets = {name: secret.reveal() for name, secret in config.secrets.items() if secret.problem() is None}
        denied = [str(network) for network in config.network.deny]
        receivers = receiver_setups(config.receivers, secrets)
        self._missing = [one.problem for one in receivers.values() if one.problem is not None]
        self._may_send = may_send
        self._webhooks = SenderProcess(
            secrets,
            denied,
            per_target=config.deliveries.per_target,
            connections=connections_of(config),
            receivers=receivers,
            send_until_s=send_until_s,
        )
        self._commands = command_sender(config, clock.now_ms, may_send, send_until_s)
        self._mail = mail_sender(config, may_send)
        self._config = config

    def by_action(self) -> Mapping[str, ActionSender | BatchSender]:
        """Each sender under the kind of action that it carries out."""
        found: dict[str, ActionSender | BatchSender] = {
            "webhook": self._webhooks,
            "command": self._commands,
            "log": LogSender(partial(write_log_actions, self._may_send)),
        }
        if self._mail is not None:
            found["email"] = self._mail
        if self._config.receivers:
            found["notify"] = NotifyDispatch(self._webhooks, mail_receivers(self._config), self._mail)
        return found

    def webhook_trouble(self) -> str | None:
        """Why no webhook is sent, whatever its target; None while all is well."""
        return self._webhooks.trouble()

    def command_trouble(self) -> str | None:
        """Why commands are not even tried; None while all is well."""
        return self._commands.trouble()

    def receiver_trouble(self) -> str | None:
        """Which receivers cannot be used, because a secret of theirs is missing; None while all can."""
        return "; ".join(self._missing) or None

    async def start(self) -> None:
        """Start the process that sends webhooks; nothing else needs a start."""
        await self._webhooks.start()

    def tell_lease(self) -> None:
        """Tell the process that sends webhooks how long the lease lasts now."""
        self._webhooks.tell_lease()

    def stop_waiting(self) -> None:
        """Do not wait any longer for devices to come back: their commands stay due."""
        self._commands.stop_waiting()

    async def close(self) -> None:
        """Give connections back."""
        await self._webhooks.close()
        await self._commands.close()
        if self._mail is not None:
            await self._mail.close()


def connections_of(config: Config) -> dict[str, ConnectionSetup]:
    """How to connect: as `webhooks` says, and for each receiver."""
    found = {DEFAULT_CONNECTION: connection_setup(config.webhooks)}
    return found | {name: connection_setup(one.connection) for name, one in config.receivers.items()}


def mail_receivers(config: Config) -> dict[str, MailReceiver]:
    """The receivers that are sent e-mails."""
    sender = config.smtp.sender if config.smtp is not None else "rollcall@localhost"
    return {
        name: MailReceiver(sender=sender, to=one.values["to"], cc=one.values.get("cc", ()))
        for name, one in config.receivers.items()
        if one.type == EMAIL
    }


def mail_sender(config: Config, may_send: MaySend = always) -> MailSender | None:
    """What sends e-mails by the configured server; None where there is none."""
    smtp = config.smtp
    if smtp is None:
        return None
    from engine.actions.email.sender import MailSender  # most services send no e-mail, and start sooner without it

    return MailSender(
        host=smtp.host,
        port=smtp.port,
        security=smtp.security,
        username=smtp.username,
        password=smtp.password.reveal if smtp.password is not None else None,
        ca=str(smtp.ca) if smtp.ca is not None else None,
        timeout_s=smtp.timeout_ms / 1000,
        helo=smtp.helo,
        may_send=may_send,
    )


def write_log_actions(may_send: MaySend, items: Sequence[OutboxItem], written: Written) -> None:
    """Carry out the actions of kind `log`."""
    entries = [{"rule": item.rule, "phase": item.phase, "message": item.request.get("message", "")} for item in items]
    log_all(Event.ACTION_LOG, entries, written, may_send)
