"""Commands through a real Mosquitto: who gets them, how long they live, and what a broker in trouble does to them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.actions.base import Answer, Delivered, OutboxItem, Outcome, Rejected, RetryLater
from engine.actions.command.mqtt import MqttCommands, signature_login
from engine.actions.command.mqtt_client import MqttLogin
from engine.actions.command.sender import CommandSender, Waits
from engine.core.times import rfc3339
from engine.telemetry import Event
from tests.acceptance.service import eventually, free_port, requires
from tests.commands.mosquitto import Mosquitto, OldBroker, device, running
from tests.commands.orders import CLOCK, DEVICE, command, login, sending
from tests.written_log import WrittenLog


def test_the_login_is_signed_as_the_vendor_documents_it() -> None:
    assert signature_login("GID_Test@@@0001", "mqtt-cn-x", "KEY", "XXXXX") == (
        "Signature|KEY|mqtt-cn-x",
        "vI009IZJZVGRwBwZvnbwjfuXxVM=",
    )


def test_a_login_never_shows_its_password() -> None:
    assert "hidden" not in repr(login(1, username="u", password="hidden"))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_device_that_is_online_gets_its_command_once(broker: Mosquitto, qos: int) -> None:
    item = command(qos=qos)
    with device(broker.port, DEVICE) as gateway, device(broker.port, "GID_GW@@@gw-2") as other:

        async def work(sender: MqttCommands) -> None:
            assert isinstance(await sender.send(item), Delivered)

        sending(broker.port, work)
        gateway.say("that is all")
        other.say("that is all")
        # A message of QoS 2 takes more steps than the one that came after it.
        (first,) = eventually(lambda: [got for got in gateway.got() if got.payload != "that is all"])
        assert (first.payload, first.qos, first.id) == ("reboot", qos, "k1")
        assert first.expires_at == rfc3339(item.decided_at_ms + 30_000)
        assert first.expiry_s is not None and first.expiry_s <= 30
        assert other.payloads() == ["that is all"]


def test_a_mapping_arrives_as_json(broker: Mosquitto) -> None:
    with device(broker.port, DEVICE) as gateway:

        async def work(sender: MqttCommands) -> None:
            await sender.send(command(payload={"do": "reboot", "port": 3}))

        sending(broker.port, work)
        gateway.say("that is all")
        assert gateway.payloads() == ['{"do":"reboot","port":3}', "that is all"]


def test_a_device_that_is_offline_gets_what_is_still_good_and_never_what_is_stale(broker: Mosquitto) -> None:
    with device(broker.port, DEVICE, keeps=True) as gateway:
        gateway.leave()

        async def work(sender: MqttCommands) -> None:
            assert isinstance(await sender.send(command("stale", expires_ms=2_000, payload="stale")), Delivered)
            assert isinstance(await sender.send(command("good", expires_ms=600_000, payload="good")), Delivered)

        began_s = time.monotonic()
        sending(broker.port, work)
        eventually(lambda: time.monotonic() - began_s > 3.1)  # the life of the first is over
        gateway.connect()
        gateway.say("that is all")
        assert gateway.payloads() == ["good", "that is all"]


def test_a_command_to_nobody_is_taken_by_the_broker_and_forgotten(broker: Mosquitto) -> None:
    async def work(sender: MqttCommands) -> None:
        assert await sender.send(command()) == Delivered(detail="no client is subscribed to the topic")

    sending(broker.port, work)
    with device(broker.port, DEVICE) as gateway:
        gateway.say("that is all")
        assert gateway.payloads() == ["that is all"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_broker_that_only_speaks_3_1_1_is_spoken_to_in_3_1_1(broker: Mosquitto, silent: bool) -> None:
    old = OldBroker(broker.port, silent=silent)
    with device(broker.port, DEVICE) as gateway:

        async def work(sender: MqttCommands) -> None:
            assert await sender.send(command()) == Delivered()

        sending(old.port, work)
        gateway.say("that is all")
        assert [(got.payload, got.id) for got in gateway.got()] == [("reboot", ""), ("that is all", "")]
        assert old.versions == [5, 4]
    old.close()


def test_an_old_broker_that_said_so_is_not_asked_for_mqtt_5_again(broker: Mosquitto) -> None:
    old = OldBroker(broker.port)

    async def work(sender: MqttCommands) -> None:
        assert await sender.send(command()) == Delivered()
        broker.kill()
        broker.start()
        answer = await sender.send(command("k2"))
        while not isinstance(answer, Delivered):
            answer = await sender.send(command("k2"))

    sending(old.port, work)
    assert old.versions[0] == 5 and set(old.versions[1:]) == {4}
    old.close()


def test_many_commands_share_one_connection(broker: Mosquitto) -> None:
    with device(broker.port, DEVICE) as gateway:

        async def work(sender: MqttCommands) -> None:
            answers = await asyncio.gather(*(sender.send(command(f"k{n}", payload=f"{n}")) for n in range(300)))
            assert all(isinstance(answer, Delivered) for answer in answers)

        sending(broker.port, work)
        gateway.say("that is all")
        assert sorted(gateway.payloads()[:-1], key=int) == [str(n) for n in range(300)]
        assert broker.log().count("as GID_rollcall@@@rollcall") == 1


def test_the_vendors_login_is_accepted_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    name, password = signature_login("GID_rollcall@@@rollcall", "mqtt-cn-1", "AK", "secret")
    with running(tmp_path / "m", users={name: password, "device": "x"}) as broker:

        async def right(sender: MqttCommands) -> None:
            assert isinstance(await sender.send(command()), Delivered)

        async def wrong(sender: MqttCommands) -> None:
            answer = await sender.send(command(expires_ms=3_000))
            assert isinstance(answer, RetryLater) and answer.our_fault and not answer.may_have_arrived
            assert "refuses the login as GID_rollcall@@@rollcall: Not authorized" in answer.reason

        sending(broker.port, right, username=name, password=password)
        sending(broker.port, wrong, username=name, password="wrong")


def test_without_a_broker_a_command_waits_for_its_life_and_no_longer() -> None:
    port = free_port()

    async def work(sender: MqttCommands) -> None:
        answer = await sender.send(command(expires_ms=2_500))
        assert isinstance(answer, RetryLater) and not answer.may_have_arrived
        assert answer.reason == f"cannot connect to 127.0.0.1:{port}: Connection refused"

    sending(port, work)


def test_a_command_waits_for_a_broker_that_comes_back(tmp_path: Path) -> None:
    with running(tmp_path / "m") as broker:
        broker.kill()

        async def work(sender: MqttCommands) -> None:
            waiting = asyncio.create_task(sender.send(command()))
            await asyncio.sleep(0)
            await asyncio.to_thread(broker.start)
            assert isinstance(await waiting, Delivered)

        sending(broker.port, work)


def test_a_command_that_waits_goes_back_at_once_when_the_service_stops() -> None:
    port = free_port()

    async def go() -> None:
        waits, outcomes = Waits(), asyncio.Queue[Outcome]()
        mqtt = MqttCommands(lambda: login(port), CLOCK.now_ms, waits)
        sender = CommandSender({"mqtt": mqtt}, CLOCK.now_ms, waits)
        sender.submit([command(expires_ms=86_400_000)], lambda found: outcomes.put_nowait(found[0]))
        await asyncio.sleep(0)
        sender.stop_waiting()
        answer = (await outcomes.get()).answer
        assert isinstance(answer, RetryLater) and not answer.may_have_arrived
        assert isinstance(await sender.send(command(expires_ms=86_400_000)), RetryLater)
        await sender.close()

    asyncio.run(go())


def test_a_way_that_is_not_configured_any_more_is_refused() -> None:
    async def go() -> None:
        answer = await CommandSender({}, CLOCK.now_ms, Waits()).send(command())
        assert isinstance(answer, Rejected) and "commands via mqtt are not configured" in answer.reason

    asyncio.run(go())


def test_what_is_too_old_is_not_sent(broker: Mosquitto) -> None:
    async def work(sender: MqttCommands) -> None:
        assert isinstance(await sender.send(command(age_ms=29_500)), RetryLater)
        assert isinstance(await sender.send(command(age_ms=60_000)), RetryLater)

    with device(broker.port, DEVICE) as gateway:
        sending(broker.port, work)
        gateway.say("that is all")
        assert gateway.payloads() == ["that is all"]


def test_a_broker_that_hangs_is_left_within_the_commands_life_and_what_it_took_may_have_arrived(
    broker: Mosquitto,
) -> None:
    async def work(sender: MqttCommands) -> None:
        assert isinstance(await sender.send(command()), Delivered)
        broker.freeze()
        try:
            answer = await sender.send(command("k2", expires_ms=2_500))
        finally:
            broker.thaw()
        assert isinstance(answer, RetryLater) and answer.may_have_arrived
        assert "did not confirm" in answer.reason
        assert isinstance(await sender.send(command("k3")), Delivered)

    sending(broker.port, work)
    assert broker.log().count("as GID_rollcall@@@rollcall") == 2


def test_commands_under_way_when_the_broker_dies_may_have_arrived_and_are_tried_again(broker: Mosquitto) -> None:
    async def work(sender: MqttCommands) -> None:
        assert isinstance(await sender.send(command()), Delivered)
        broker.freeze()
        waiting = [asyncio.create_task(sender.send(command(f"k{n}"))) for n in range(5)]
        await asyncio.sleep(0.05)  # they are on their way; nothing depends on how far
        broker.kill()
        for answer in await asyncio.gather(*waiting):
            assert isinstance(answer, RetryLater) and answer.our_fault
        broker.start()
        assert isinstance(await sender.send(command("later")), Delivered)

    sending(broker.port, work)


def test_a_command_longer_than_the_broker_takes_is_refused_and_costs_no_connection(tmp_path: Path) -> None:
    with running(tmp_path / "m", more="max_packet_size 2000") as broker:

        async def work(sender: MqttCommands) -> None:
            assert isinstance(await sender.send(command()), Delivered)
            assert isinstance(await sender.send(command("k2", payload="x" * 2000)), Rejected)
            assert isinstance(await sender.send(command("k3")), Delivered)

        sending(broker.port, work)
        assert broker.log().count("as GID_rollcall@@@rollcall") == 1


def test_what_the_broker_forbids_is_refused_for_good(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    (tmp_path / "acl").chmod(0o600)
    with running(tmp_path / "m", more=f"acl_file {tmp_path / 'acl'}") as broker:

        async def work(sender: MqttCommands) -> None:
            assert await sender.send(command()) == Rejected(reason="the broker refuses the command: Not authorized")

        sending(broker.port, work)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for an address, and its key."""
    requires("openssl", shutil.which("openssl"))
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"]
    made += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key


def test_tls_is_used_and_the_certificate_verified(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "IP:127.0.0.1")
    with running(tmp_path / "m", tls=tls) as broker:

        async def trusted(sender: MqttCommands) -> None:
            answers = await asyncio.gather(*(sender.send(command(f"k{n}", payload="x" * 9_000)) for n in range(40)))
            assert all(isinstance(answer, Delivered) for answer in answers)

        async def unknown(sender: MqttCommands) -> None:
            answer = await sender.send(command(expires_ms=3_000))
            assert isinstance(answer, RetryLater) and "certificate is not trusted" in answer.reason

        sending(broker.port, trusted, ca=str(tls[0]))
        sending(broker.port, unknown, ca="")


def test_a_certificate_for_another_name_is_not_accepted(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "DNS:elsewhere.example.com")
    with running(tmp_path / "m", tls=tls) as broker:

        async def work(sender: MqttCommands) -> None:
            answer = await sender.send(command(expires_ms=3_000))
            assert isinstance(answer, RetryLater) and "certificate is not trusted" in answer.reason

        sending(broker.port, work, ca=str(tls[0]))


def test_a_second_client_of_the_same_id_is_suspected(broker: Mosquitto, log: WrittenLog) -> None:
    async def work(sender: MqttCommands) -> None:
        assert isinstance(await sender.send(command()), Delivered)
        other = MqttCommands(lambda: login(broker.port), CLOCK.now_ms)
        assert isinstance(await other.send(command("k2")), Delivered)
        async with asyncio.timeout(20):
            while "does another client use the id GID_rollcall@@@rollcall?" not in log.text:
                await asyncio.sleep(0.01)  # only how often we look
        await other.close()

    sending(broker.port, work)
    assert log.lines(Event.COMMANDS_CONNECTED)[0]["version"] == "5"
    assert any("does another client use" in line["reason"] for line in log.lines(Event.COMMANDS_DISCONNECTED))


def test_an_internal_error_of_a_connection_is_logged_and_shown_with_the_delivery(log: WrittenLog) -> None:
    def broken() -> MqttLogin:
        raise ZeroDivisionError("oh")

    async def go() -> None:
        sender = MqttCommands(broken, CLOCK.now_ms)
        answer = await sender.send(command(expires_ms=1_200))
        assert isinstance(answer, RetryLater) and answer.reason == "internal error: ZeroDivisionError('oh')"
        await sender.close()

    asyncio.run(go())
    line = log.lines(Event.COMMANDS_FAILED)[0]
    assert line["error"] == "ZeroDivisionError('oh')" and line["where"].startswith("test_mqtt.py:")


def test_a_sender_that_raises_is_logged_with_its_delivery(log: WrittenLog) -> None:
    class Broken:
        async def send(self, item: OutboxItem) -> Answer:
            raise ZeroDivisionError("oh")

        async def close(self) -> None:
            """Nothing is held."""

    outcomes: list[Outcome] = []

    async def go() -> None:
        sender = CommandSender({"mqtt": Broken()}, CLOCK.now_ms, Waits())
        done = asyncio.Event()

        def take(some: Sequence[Outcome]) -> None:
            outcomes.extend(some)
            done.set()

        sender.submit([command()], take)
        await done.wait()
        await sender.close()

    asyncio.run(go())
    (outcome,) = outcomes
    assert isinstance(outcome.answer, RetryLater) and outcome.answer.may_have_arrived
    line = log.line(Event.SENDER_FAILED)
    assert (line["action"], line["delivery"], line["rule"]) == ("command", 1, "r")
