"""Commands as a fleet meets them: the service, a real broker that dies and comes back, and devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.times import rfc3339
from tests.acceptance.service import Service, event, eventually, now_ms
from tests.commands.mosquitto import PARENT, Device, Mosquitto, device

GATEWAY = "GID_GW@@@gw-north"


def cycle(name: str, expires: str) -> dict[str, Any]:
    """A rule that restarts the gateway of a sensor that went dark."""
    command = {
        "to": "GID_GW@@@{{ client.attributes.gateway }}",
        "payload": {"rule": "{{ rule.name }}", "for": "{{ client.device }}"},
        "expires": expires,
    }
    return {"name": name, "trigger": "offline", "flapping": "fire", "actions": [{"command": command}]}


@pytest.fixture
def engine(tmp_path: Path, broker: Mosquitto) -> Iterator[Service]:
    """A service that knows the gateways and the broker, not started; rules `quick` and `patient`."""
    (tmp_path / "inventory.csv").write_text("client,gateway\nGID@@@evil,a/#\nGID@@@[!n]*,gw-north\n")
    made = Service(tmp_path, mqtt={"endpoint": broker.address, "parent_topic": PARENT}, inventory="inventory.csv")
    made.rules(cycle("quick", "3s"), cycle("patient", "10m"))
    yield made
    made.close()


@pytest.fixture
def gateway(broker: Mosquitto) -> Iterator[Device]:
    """The gateway, connected."""
    with device(broker.port, GATEWAY) as found:
        yield found


def go_dark(engine: Service, *names: str) -> None:
    told = [event(f"GID@@@{name}", kind, f"c-{name}") for name in names for kind in ("connect", "tcpclean")]
    engine.tell(*told)


def ended(engine: Service, rule: str, *names: str) -> dict[str, dict[str, Any]]:
    """A rule's deliveries about some devices, by device, when all of them are delivered or dead."""

    def ask() -> dict[str, dict[str, Any]]:
        found = engine.items("/v1/deliveries", rule=rule)
        return {entry["client"].partition("@@@")[2]: entry for entry in found if entry["state"] != "due"}

    found = eventually(ask, lambda seen: set(names) <= set(seen))
    return {name: found[name] for name in names}


def states(found: dict[str, dict[str, Any]]) -> set[str]:
    return {entry["state"] for entry in found.values()}


def heard(gateway: Device, rule: str) -> list[str]:
    """The devices for whose sake the gateway was restarted by a rule."""
    told = [json.loads(text) for text in gateway.payloads() if text.startswith("{")]
    return [entry["for"] for entry in told if entry["rule"] == rule]


def test_the_gateway_of_a_dark_sensor_is_told_and_an_id_that_is_none_is_dead(engine: Service, gateway: Device) -> None:
    engine.start()
    go_dark(engine, "s1", "nowhere", "evil")
    found = ended(engine, "patient", "s1", "nowhere", "evil")
    assert found["s1"]["state"] == "delivered" and found["s1"]["target"].startswith("mqtt://127.0.0.1:")
    assert found["nowhere"]["state"] == found["evil"]["state"] == "dead"
    assert found["nowhere"]["last_error"] == "`to` is no client id: there is nothing after the @@@"
    assert found["evil"]["last_error"] == "`to` is no client id: it holds `/`"
    ended(engine, "quick", "s1")
    gateway.say("that is all")
    assert heard(gateway, "patient") == heard(gateway, "quick") == ["s1"]
    assert found["s1"]["key"] in [got.id for got in gateway.got()]
    assert engine.terminate() == 0


def test_commands_in_the_hands_of_a_broker_that_dies_arrive_within_their_life_or_never(
    engine: Service, broker: Mosquitto, gateway: Device
) -> None:
    engine.start()
    go_dark(engine, "warm")
    assert states(ended(engine, "quick", "warm") | ended(engine, "patient", "warm")) == {"delivered"}
    names = [f"s{n}" for n in range(20)]
    broker.freeze()  # it has some of them by now, and answers none
    go_dark(engine, *names)
    eventually(lambda: engine.items("/v1/deliveries"), lambda found: len(found) == 2 * 21)
    broker.kill()
    dead = ended(engine, "quick", *names)
    assert states(dead) == {"dead"} and all(entry["last_error"] for entry in dead.values())
    broker.start()
    assert states(ended(engine, "patient", *names)) == {"delivered"}
    go_dark(engine, "after")
    assert states(ended(engine, "quick", "after")) == {"delivered"}
    # While it connects again it may miss some: the broker keeps nothing for it.
    eventually(
        lambda: go_dark(engine, f"more-{now_ms()}"), lambda _: any("more" in name for name in heard(gateway, "quick"))
    )
    gateway.say("that is all")
    assert not set(heard(gateway, "quick")) & set(names)
    assert set(heard(gateway, "patient")) <= {"warm", "after", *names} | set(heard(gateway, "quick"))


def test_no_command_arrives_after_its_instant(engine: Service, broker: Mosquitto, gateway: Device) -> None:
    engine.start()
    for turn in range(4):
        go_dark(engine, *(f"t{turn}-{n}" for n in range(25)))
        broker.kill()
        go_dark(engine, *(f"u{turn}-{n}" for n in range(25)))
        broker.start()
    names = [f"{kind}{turn}-{n}" for kind in "tu" for turn in range(4) for n in range(25)]
    assert states(ended(engine, "quick", *names)) <= {"delivered", "dead"}
    assert states(ended(engine, "patient", *names)) == {"delivered"}
    eventually(
        lambda: go_dark(engine, f"more-{now_ms()}"), lambda _: any("more" in name for name in heard(gateway, "quick"))
    )
    gateway.say("that is all")
    late = [got for got in gateway.got() if got.expires_at and rfc3339(got.at_ms) > got.expires_at]
    assert late == []


def test_a_restart_does_not_give_a_command_a_new_life(engine: Service, broker: Mosquitto) -> None:
    broker.kill()
    engine.start()
    go_dark(engine, "s1")
    eventually(lambda: engine.items("/v1/deliveries"), lambda found: len(found) == 2)
    decided_ms = now_ms()
    engine.kill()
    eventually(lambda: now_ms() > decided_ms + 3_000)
    broker.start()
    with device(broker.port, GATEWAY) as gateway:
        engine.start()
        assert ended(engine, "quick", "s1")["s1"]["last_error"].startswith("too old to be sent")
        assert states(ended(engine, "patient", "s1")) == {"delivered"}
        gateway.say("that is all")
        assert heard(gateway, "quick") == [] and heard(gateway, "patient") == ["s1"]
        # Its life was over: an operator who sends it all the same decides anew.
        (dead,) = engine.items("/v1/deliveries", state="dead")
        assert engine.command("deliveries", "retry", str(dead["id"])).returncode == 0
        eventually(lambda: heard(gateway, "quick"), lambda found: found == ["s1"])


def test_replay_shows_the_command_and_sends_none(engine: Service, broker: Mosquitto, gateway: Device) -> None:
    (engine.folder / "events.jsonl").write_text(
        "\n".join(
            [
                event("GID@@@s1", "connect", "c", 1_767_225_600_000),
                event("GID@@@s1", "tcpclean", "c", 1_767_225_605_000),
            ]
        )
    )
    lines = engine.printed("replay", "events.jsonl")
    (shown,) = [line for line in lines if line["type"] == "delivery" and line["rule"] == "quick"]
    assert shown["action"] == "command"
    assert shown["request"] == {
        "to": GATEWAY,
        "topic": f"{PARENT}/p2p/{GATEWAY}",
        "payload": {"rule": "quick", "for": "s1"},
        "qos": 1,
        "expires": "3s",
        "expires_ms": 3_000,
        "via": "mqtt",
    }
    gateway.say("that is all")
    assert gateway.payloads() == ["that is all"]
