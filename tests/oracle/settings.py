"""What the oracle reads of a configuration folder: settings, rules and inventory, each in the simplest form that works.

It validates nothing: the traces it is given come from `tests.oracle.traces` or were written by a person who ran `rollcall check`.
"""

from __future__ import annotations

import csv
import fnmatch
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text: object) -> int:
    """`6m2s` as milliseconds."""
    return sum(int(n) * UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h|d)", str(text)))


def halves(client: str) -> tuple[str, str]:
    """The group and the device of a client id; without `@@@` the group is empty."""
    group, found, device = client.partition("@@@")
    return (group, device) if found else ("", client)


def as_list(value: Any) -> list[Any]:
    """A value or a list of values, as a list."""
    return value if isinstance(value, list) else [value]


def fits(pattern: str, text: str) -> bool:
    """Whether a glob, or `re:` and an expression for a full match, covers the text."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], text) is not None
    return fnmatch.fnmatchcase(text, pattern)


def matches(match: dict[str, Any], client: str, ip: str, attributes: dict[str, str]) -> bool:
    """Whether every field of a `match` holds for this client; `ip` is without its port, empty when never told."""
    group, device = halves(client)
    texts = {"group": group, "device": device, "client": client}
    for key, wanted in match.items():
        if key == "ip":
            if not ip or not any(ipaddress.ip_address(ip) in ipaddress.ip_network(net) for net in as_list(wanted)):
                return False
        elif key == "attributes":
            for column, patterns in wanted.items():
                if not any(fits(p, attributes.get(column, "")) for p in as_list(patterns)):
                    return False
        elif not any(fits(p, texts[key]) for p in as_list(wanted)):
            return False
    return True


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A configuration folder, read. Durations are milliseconds; rules and inventory rows stay the mappings they were."""

    skew: int
    offline: int
    online: int
    overrides: list[dict[str, Any]]
    start: int
    stop: int
    window: int
    max_future: int
    rules: list[dict[str, Any]]
    inventory: list[dict[str, str]]

    def hold(self, client: str, status: str) -> int:
        """How long a change of this client to `status` is held: the first override that matches and sets it, else the default."""
        for override in self.overrides:
            if status in override and matches(override["match"], client, "", self.attributes(client)):
                return milliseconds(override[status])
        return self.offline if status == "offline" else self.online

    def attributes(self, client: str) -> dict[str, str]:
        """Every column of the inventory for this client: the first matching row that sets it, else empty."""
        columns = {column: "" for row in self.inventory for column in row if column != "client"}
        for row in reversed(self.inventory):
            if fits(row["client"], client):
                columns.update({column: value for column, value in row.items() if column != "client" and value})
        return columns


def read_settings(folder: Path) -> Settings:
    """Read `config.yaml` and what it names."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    debounce, flapping = config.get("debounce", {}), config.get("flapping", {})
    rules: list[dict[str, Any]] = []
    for file in sorted((folder / config.get("rules", "rules/")).glob("*.yaml")):
        rules += yaml.safe_load(file.read_text())["rules"]
    inventory: list[dict[str, str]] = []
    if "inventory" in config:
        with (folder / config["inventory"]).open(newline="") as file_:
            inventory = list(csv.DictReader(file_))
    return Settings(
        skew=milliseconds(config.get("resolver", {}).get("clock_skew", "1s")),
        offline=milliseconds(debounce.get("offline", "30s")),
        online=milliseconds(debounce.get("online", "0s")),
        overrides=debounce.get("overrides", []),
        start=int(flapping.get("start", 6)),
        stop=int(flapping.get("stop", 2)),
        window=milliseconds(flapping.get("window", "10m")),
        max_future=milliseconds(config.get("events", {}).get("max_future", "1m")),
        rules=rules,
        inventory=inventory,
    )
