"""Commands of a replica whose lease ends while they wait: for the broker, in the connection's queue, or for the last packet of QoS 2."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.actions.base import Delivered, RetryLater, Untried
from engine.actions.command.mqtt import MqttCommands
from tests.acceptance.service import eventually
from tests.commands.mosquitto import Mosquitto, device, running
from tests.commands.orders import CLOCK, DEVICE, command, login


class Lease:
    """May something leave? `ends_after`: questions that are still answered with yes."""

    def __init__(self) -> None:
        self.ends_after: int | None = None

    def may_send(self) -> bool:
        if self.ends_after is None:
            return True
        self.ends_after -= 1
        return self.ends_after >= 0


def test_a_command_that_waited_for_its_broker_is_handed_back_when_the_lease_is_over(tmp_path: Path) -> None:
    async def go(broker: Mosquitto) -> None:
        lease = Lease()
        sender = MqttCommands(lambda: login(broker.port), CLOCK.now_ms, may_send=lease.may_send)
        waiting = [asyncio.create_task(sender.send(command(f"k{number}"))) for number in range(3)]
        await asyncio.sleep(0)
        lease.ends_after = 0
        await asyncio.to_thread(broker.start)
        with device(broker.port, DEVICE) as gateway:
            assert await asyncio.gather(*waiting) == [Untried()] * 3
            lease.ends_after = None
            assert isinstance(await sender.send(command("later")), Delivered)
            eventually(gateway.payloads)
            assert [got.id for got in gateway.got()] == ["later"]
        await sender.close()

    with running(tmp_path / "m") as broker:
        broker.kill()
        asyncio.run(go(broker))


def test_a_command_that_the_connection_has_queued_is_discarded_when_the_lease_is_over(broker: Mosquitto) -> None:
    async def go() -> None:
        lease = Lease()
        sender = MqttCommands(lambda: login(broker.port), CLOCK.now_ms, may_send=lease.may_send)
        with device(broker.port, DEVICE) as gateway:
            assert isinstance(await sender.send(command("first", qos=2)), Delivered)
            lease.ends_after = 1  # it may leave when it has its connection, and not any more when it is written
            answer = await sender.send(command("queued"))
            assert isinstance(answer, RetryLater) and "another replica" in answer.reason
            lease.ends_after = None
            assert isinstance(await sender.send(command("later")), Delivered)
            eventually(lambda: len(gateway.got()) >= 2)
            assert [got.id for got in gateway.got()] == ["first", "later"]
        await sender.close()

    asyncio.run(go())


def test_a_command_of_qos_2_is_not_completed_when_the_lease_is_over(broker: Mosquitto) -> None:
    """A broker passes it on only when its last packet has arrived."""

    async def go() -> None:
        lease = Lease()
        sender = MqttCommands(lambda: login(broker.port), CLOCK.now_ms, may_send=lease.may_send)
        with device(broker.port, DEVICE) as gateway:
            assert isinstance(await sender.send(command("first", qos=2)), Delivered)
            lease.ends_after = 2
            answer = await sender.send(command("half", qos=2))
            assert isinstance(answer, RetryLater) and answer.may_have_arrived
            lease.ends_after = None
            assert isinstance(await sender.send(command("later", qos=2)), Delivered)
            eventually(lambda: len(gateway.got()) >= 2)
            assert [got.id for got in gateway.got()] == ["first", "later"]
        await sender.close()

    asyncio.run(go())
