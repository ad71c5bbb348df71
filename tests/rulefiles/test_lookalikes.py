"""Patterns and names that are probably not what is meant: what is told of each, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.inventory import NO_INVENTORY, Inventory, inventory_of
from engine.config.time_zones import zone
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules

INVENTORY = inventory_of(
    [
        {"client": "GID_PUMP@@@pump-01", "site": "north", "floor": "1, left"},
        {"client": "GID_VALVE@@@v*", "site": "south"},
        {"client": "GID_CAM@@@cam|1"},
        {"client": "GID_CAM@@@!odd"},
    ]
)


def told(folder: Path, match: str, inventory: Inventory = INVENTORY) -> list[str]:
    """What is told of a `match`."""
    file = folder / "rules.yaml"
    file.write_text(
        f"version: 1\nrules: [{{name: a, trigger: offline, match: {{{match}}}, actions: [{{log: {{message: x}}}}]}}]\n"
    )
    try:
        problems = load_rules([file], inventory=inventory).problems
    except InvalidFiles as error:
        problems = tuple(error.problems)
    return [f"{'warning: ' if one.warning else ''}{one.path}: {one.message}" for one in problems]


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (
            'device: "!pump-*"',
            "device: `!` does not exclude anything in a pattern: write `condition: not client.device.startswith('pump-')`",
        ),
        (
            'group: "!GID_PUMP"',
            "group: `!` does not exclude anything in a pattern: write `condition: client.group != 'GID_PUMP'`",
        ),
        ('client: "!*p*"', "client: `!` does not exclude anything in a pattern: write a `condition`, such as"),
        ('device: "^pump-.*$"', "device: seems to be a regular expression: write `re:pump-.*`"),
        ('device: "^pump"', "device: seems to be a regular expression: write `re:pump.*`; if it is an id"),
        ('device: "pump$"', "device: seems to be a regular expression: write `re:.*pump`; if it is an id"),
        ('device: ["a", "p-[0-9]+"]', "device[1]: seems to be a regular expression: write `re:p-[0-9]+`"),
        ('device: "p-\\\\d*"', "device: seems to be a regular expression: write `re:p-\\d*`"),
        ('device: "(a|b)-1"', "device: seems to be a regular expression: write `re:(a|b)-1`"),
        (
            'device: "pump|valve"',
            (
                "device: `|` means nothing in a glob: write a list, [pump, valve], or `re:pump|valve`; "
                "if it is an id as it stands, write `re:pump\\|valve`"
            ),
        ),
        ('device: "a*|b*"', "device: `|` means nothing in a glob: write a list, [a*, b*], or `re:a.*|b.*`"),
        ('device: "a*,b*"', "device: is one pattern, not several: write a list, [a*, b*]"),
        ('group: "GID_A, GID_B"', "group: is one pattern, not several: write a list, [GID_A, GID_B]; if it is an id"),
        ('device: "{a,b}-1"', "device: `{…,…}` means nothing in a glob: write a list, [a-1, b-1]"),
        ('device: "“pump-*”"', "device: has quotes of a word processor, which are part of the pattern: write `pump-*`"),
        ("device: \"'pump-*'\"", "device: has quotes inside quotes, which are part of the pattern: write `pump-*`"),
        (
            'attributes: {site: "!north"}',
            "attributes.site: `!` does not exclude anything in a pattern: write `condition: client.attributes.site != 'north'`",
        ),
        ('attributes: {site: "north|south"}', "attributes.site: `|` means nothing in a glob: write a list"),
    ],
)
def test_a_pattern_that_looks_like_something_else_is_an_error(match: str, message: str, tmp_path: Path) -> None:
    (one,) = told(tmp_path, match)
    assert one.startswith(f"rules[0].match.{message}")
    (without,) = told(tmp_path, match, NO_INVENTORY)
    assert "attributes" in match or one == without


@pytest.mark.parametrize(
    "match",
    [
        'device: "cam|1"',
        'device: "cam|?"',
        'client: "GID_CAM@@@!odd"',
        'device: "re:^pump-(a|b)$"',
        'device: "re:cam\\\\|2"',
        'attributes: {floor: "1, left"}',
        'device: "v1"',
        'device: "vx-*"',
        'group: ["GID_PUMP", "GID_*"]',
        'client: "GID_VALVE@@@v7"',
        'client: "*@@@pump-01"',
        "attributes: {site: [north, south]}",
    ],
)
def test_what_the_inventory_has_or_an_expression_says_is_left_alone(match: str, tmp_path: Path) -> None:
    assert told(tmp_path, match) == []


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("group: GID_PMP", "group: no row of the inventory has the group `GID_PMP`; did you mean `GID_PUMP`?"),
        ('group: "GID_X*"', "group: no row of the inventory has a group `GID_X*`"),
        ("device: pump-1", "device: no row of the inventory has the device `pump-1`; did you mean `pump-01`?"),
        ('device: "pomp-*"', "device: no row of the inventory has a device `pomp-*`"),
        (
            "client: GID_PUMP@@@pump-1",
            "client: no row of the inventory has the client `GID_PUMP@@@pump-1`; did you mean",
        ),
        ("attributes: {site: [north, soth]}", "attributes.site[1]: no row of the inventory has `soth` in the column"),
        ('device: "pump-.*"', "device: `.*` is a dot and anything in a glob: write `re:pump-.*` for a regular"),
    ],
)
def test_what_no_row_of_the_inventory_has_is_a_warning(match: str, message: str, tmp_path: Path) -> None:
    assert told(tmp_path, match)[0].startswith(f"warning: rules[0].match.{message}")
    if "attributes" not in match and ".*" not in match:
        assert told(tmp_path, match, NO_INVENTORY) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CEST", "; did you mean `Europe/Berlin`?"),
        ("MESZ", "; did you mean `Europe/Berlin`?"),
        ("PST", "; did you mean `America/Los_Angeles`?"),
        ("EDT", "; did you mean `America/New_York`?"),
        ("CST", "; did you mean `Asia/Shanghai` or `America/Chicago`?"),
        ("IST", "; did you mean `Asia/Kolkata` or `Europe/Dublin`?"),
        ("Berlin", "; did you mean `Europe/Berlin`?"),
        ("berlin", "; did you mean `Europe/Berlin`?"),
        ("Germany", "; did you mean `Europe/Berlin`?"),
        ("New York", "; did you mean `America/New_York`?"),
        ("Europe/Munich", "; did you mean `Europe/Berlin`?"),
        ("Shenzhen", "; did you mean `Asia/Shanghai`?"),
        ("europe/berlin", "; did you mean `Europe/Berlin`?"),
        ("Europe/Berlln", "; did you mean `Europe/Berlin`?"),
        ("Shanghia", "; did you mean `Asia/Shanghai`?"),
        ("UTC+2", ": an offset knows no summer time; write the zone of a place, or `Etc/GMT-2` for always UTC+2"),
        ("-05:00", ": an offset knows no summer time; write the zone of a place, or `Etc/GMT+5` for always UTC-5"),
        ("+05:30", ": an offset knows no summer time; write the zone of a place"),
        ("XYZT", ""),
    ],
)
def test_a_time_zone_is_suggested_by_its_city(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone") as error:
        zone(name)
    assert str(error.value) == f"`{name}` is not a time zone such as Europe/Berlin or UTC{hint}"
