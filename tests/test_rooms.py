"""Who may import whom: the table of the design, held against the imports of every module.

A part may import itself, what `MAY` names for it, and the exceptions listed with a reason. Imports inside functions count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[1] / "engine"
MODULES = sorted(
    ".".join(file.relative_to(ENGINE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in ENGINE.rglob("*.py")
)

PARTS = {
    "engine": "version",
    "engine.errors": "errors",
    "engine.clock": "clock",
    "engine.core": "core",
    # What people write, read into values; each knows its own parser.
    "engine.commandrendering": "files",
    "engine.commandrules": "files",
    "engine.config": "files",
    "engine.calendars": "files",
    "engine.rulefile": "files",
    "engine.rulekeys": "files",
    "engine.inventory": "files",
    "engine.rendering": "files",
    "engine.mailrendering": "files",
    "engine.mailfile": "files",
    "engine.addresses": "files",
    "engine.plaintemplates": "files",
    "engine.template_names": "files",
    "engine.durations": "files",
    "engine.statusconfig": "files",
    "engine.matchfile": "files",
    "engine.matchwords": "files",
    "engine.mqttconfig": "files",
    "engine.patterns": "files",
    "engine.sandbox": "files",
    "engine.summarizing": "files",
    "engine.schema": "files",
    "engine.yamlfile": "files",
    "engine.telemetry": "telemetry",
    # The seams, and what is pure behind them.
    "engine.sources": "source seam",
    "engine.sources.base": "source seam",
    "engine.sources.wire": "source seam",
    "engine.sources.acceptance": "source seam",
    "engine.sources.pushfeed": "source seam",
    "engine.stores": "store seam",
    "engine.stores.base": "store seam",
    "engine.stores.journal": "store seam",
    "engine.actions": "action seam",
    "engine.actions.base": "action seam",
    "engine.status": "status seam",
    "engine.status.base": "status seam",
    "engine.status.budget": "status seam",
    "engine.status.http": "status seam",
    "engine.status.ledger": "status seam",
    "engine.status.breaker": "status seam",
    "engine.status.session": "status seam",
    # Adapters: one a name, whatever number of modules it has.
    "engine.sources.file": "source file",
    "engine.sources.tailing": "source file",
    "engine.sources.http": "source http",
    "engine.sources.amqp": "source amqp",
    "engine.sources.amqplink": "source amqp",
    "engine.sources.amqplogin": "source amqp",
    "engine.sources.simulator": "source simulator",
    "engine.sources.rocketmq": "source rocketmq",
    "engine.sources.rocketmq_binding": "source rocketmq",
    "engine.sources.rocketmq_intake": "source rocketmq",
    "engine.sources.rocketmq_log": "source rocketmq",
    "engine.sources.rocketmq_native": "source rocketmq",
    "engine.sources.rocketmq_positions": "source rocketmq",
    "engine.sources.rocketmq_producing": "source rocketmq",
    "engine.sources.rocketmq_publishing": "source rocketmq",
    "engine.sources.rocketmq_reader": "source rocketmq",
    "engine.sources.synthetic": "source simulator",
    "engine.stores.sqlite": "store sqlite",
    "engine.stores.sqlite_kept": "store sqlite",
    "engine.stores.sqlite_outbox": "store sqlite",
    "engine.stores.sqlite_reconciling": "store sqlite",
    "engine.stores.sqlite_reader": "store sqlite",
    "engine.actions.webhook": "action webhook",
    "engine.actions.signing": "action webhook",
    "engine.actions.sender": "action webhook",
    "engine.actions.log": "action log",
    "engine.actions.command": "action command",
    "engine.actions.command_link": "action command",
    "engine.actions.command_mqtt": "action command",
    "engine.actions.command_rocketmq": "action command",
    "engine.actions.email": "action email",
    "engine.actions.mailmessage": "action email",
    "engine.actions.smtplines": "action email",
    "engine.status.route": "status route",
    "engine.status.openapi": "status openapi",
    "engine.status.client": "status client",
    # Above them.
    "engine.services": "services",
    "engine.replay": "replay",
    "engine.sharedreplay": "replay",
    "engine.scenarios": "replay",
    "engine.scenariofile": "replay",
    "engine.scenariorow": "replay",
    "engine.scenarioqueries": "replay",
    "engine.expectations": "replay",
    "engine.views": "web",
    "engine.web": "web",
    "engine.acts": "app",
    "engine.app": "app",
    "engine.asking": "app",
    "engine.commanding": "app",
    "engine.desk": "app",
    "engine.feeding": "app",
    "engine.listening": "app",
    "engine.offline": "app",
    "engine.outboxing": "app",
    "engine.rulekeeping": "app",
    "engine.testhooks": "app",
    "engine.fleets": "files",
    "engine.cli": "cli",
}
"""The part a module belongs to: its own entry, or that of the nearest package above it."""

SEAMS = {"source seam", "store seam", "action seam", "status seam"}
EVERYTHING = set(PARTS.values())
MAY: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "clock": set(),
    "core": {"errors"},
    "files": {"core", "errors"},
    "telemetry": {"core", "errors"},
    "source seam": {"core", "errors"},
    "action seam": {"core", "errors"},
    "store seam": {"core", "errors"},
    "status seam": {"core", "errors"},
    "source file": {"source seam", "core", "errors"},
    "source http": {"source seam", "core", "errors"},
    "source amqp": {"source seam", "core", "errors"},
    "source simulator": {"source seam", "core", "errors"},
    "source rocketmq": {"source seam", "core", "errors"},
    "store sqlite": {"store seam", "core", "errors"},
    "action webhook": {"action seam", "core", "errors"},
    "action log": {"action seam", "core", "errors"},
    "action command": {"action seam", "core", "errors"},
    "action email": {"action seam", "core", "errors"},
    "status route": {"status seam", "core", "errors"},
    "status openapi": {"status seam", "core", "errors"},
    "status client": {"status seam", "status route", "core", "errors"},
    "services": {"core", *SEAMS, "clock", "telemetry", "errors"},
    "replay": {"core", "files", "source seam", "errors"},
    "web": {"core", "store seam", "telemetry", "errors", "version"},
    "app": EVERYTHING - {"cli"},
    "cli": EVERYTHING,
}
"""What each part may import besides itself and the standard library."""

EXCEPTIONS = {
    (
        "engine.statusconfig",
        "engine.status.http",
    ): "an address is read the same way where it is written and where it is used",
    ("engine", "engine.status.client"): "the name `from engine import StatusClient`, loaded when it is asked for",
    ("engine.services.feedwatch", "engine.durations"): "says how far behind a source is in words people read",
    ("engine.web.status_page", "engine.durations"): "shows ages in words people read",
    ("engine.web.whynot", "engine.durations"): "shows how long a rule waits in words people read",
    ("engine.web.silencing", "engine.durations"): "reads how long a silence is to be, in words people write",
    (
        "engine.stores.journal",
        "engine.sources.base",
    ): "a gap is named by the source that finds it and kept by the store",
    ("engine.stores.sqlite", "engine.sources.base"): "the same gap",
    ("engine.stores.journal", "engine.actions.base"): "what may leave at once is handed on as the dispatcher takes it",
    ("engine.stores.sqlite", "engine.actions.base"): "the same items",
}

VALUES = {"__future__", "bisect", "collections", "dataclasses", "datetime", "functools", "hashlib", "heapq", "ipaddress",
          "itertools", "json", "math", "mypy_extensions", "operator", "typing"}  # fmt: skip
"""The standard library that the pure core may use: nothing of it reads a clock, the world or chance."""

NO_CLOCK = {"now", "utcnow", "today", "fromtimestamp"}
"""Names on `datetime` that read the machine's clock or time zone."""

LIBRARIES = {
    "aiohttp": ["engine.actions", "engine.app"],
    "aiormq": ["engine.sources.amqp", "engine.sources.amqplink", "engine.sources.amqplogin"],
    # The vendor's SDK, in three packages.
    "alibabacloud_onsmqtt20200420": ["engine.status.openapi"],
    "alibabacloud_tea_openapi": ["engine.status.openapi"],
    "alibabacloud_tea_util": ["engine.status.openapi"],
    "aiosmtplib": ["engine.actions.email", "engine.actions.smtplines"],
    "apscheduler": ["engine.calendars", "engine.services"],
    "click": ["engine.cli"],
    "fastapi": ["engine.web"],
    "jinja2": ["engine.rendering", "engine.plaintemplates", "engine.sandbox", "engine.template_names", "engine.web",
               "engine.cli"],
    "markupsafe": ["engine.sandbox"],
    "jsonschema": ["engine.schema"],
    "multidict": ["engine.actions.webhook"],  # aiohttp's own headers
    "msgspec": ["engine.sources", "engine.stores", "engine.actions", "engine.replay", "engine.telemetry", "engine.views", "engine.rendering",
                "engine.web", "engine.commandrendering"],
    "mypy_extensions": ["engine.core"],  # hints for the compiler, without effect where there is none
    "paho": ["engine.actions.command_link"],
    "prometheus_client": ["engine.web", "engine.telemetry"],
    "re2": ["engine.patterns"],
    "requests": ["engine.cli", "engine.status"],
    "rich": ["engine.cli"],
    "rocketmq": ["engine.sources.rocketmq_binding", "engine.sources.rocketmq_producing"],
    "sqlite3": ["engine.stores.sqlite", "engine.stores.sqlite_kept", "engine.stores.sqlite_outbox",
                "engine.stores.sqlite_reader"],
    "starlette": ["engine.web"],
    "structlog": ["engine.telemetry"],
    "uvicorn": ["engine.listening"],
    "uvloop": ["engine.app", "engine.actions.sender"],
    "watchfiles": ["engine.sources.file"],
    "yarl": ["engine.actions.webhook", "engine.sources.amqp"],  # its own addresses, and those of aiormq
    "yaml": ["engine.yamlfile", "engine.inventory"],
}  # fmt: skip
"""Where a library may be imported: at the one edge that it serves."""

LIBRARY_EXCEPTIONS = {
    ("engine.desk", "sqlite3"): "it holds the store's connections",
    ("engine.stores.sqlite_reconciling", "sqlite3"): "functions over the store's connection",
    ("engine.stores.journal", "sqlite3"): "a piece of work inside the writer's transaction is given its connection",
}


def part_of(module: str) -> str:
    """The part a module belongs to; KeyError for one that nobody has given a part yet."""
    if module in PARTS:
        return PARTS[module]
    package = module.rpartition(".")[0]
    if package in {"engine", ""}:
        raise KeyError(f"{module} belongs to no part: name it in PARTS, and in the design")
    return part_of(package)


def tree_of(module: str) -> ast.Module:
    """A module's syntax."""
    path = ENGINE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())


def imports_of(module: str) -> Iterator[str]:
    """Every module that a module imports, wherever the import stands."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written out in full"
            source = node.module or ""
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source


def refused(module: str) -> list[str]:
    """The imports of a module that its part does not allow."""
    part = part_of(module)
    return [
        f"{module} ({part}) imports {other} ({part_of(other)})"
        for other in imports_of(module)
        if other.partition(".")[0] == "engine"
        and part_of(other) not in {part, *MAY[part]}
        and (module, other) not in EXCEPTIONS
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_only_what_its_part_may(module: str) -> None:
    assert refused(module) == []


def test_every_adapter_keeps_to_itself() -> None:
    adapters = {
        part
        for part in MAY
        if part.split()[0] in {"source", "store", "action", "status"} and part != "status client" and part not in SEAMS
    }
    assert all(not MAY[adapter] & adapters for adapter in adapters)


def test_the_exceptions_are_still_needed() -> None:
    used = {(module, other) for module in MODULES for other in imports_of(module)}
    assert {pair for pair in EXCEPTIONS if pair not in used} == set()


def test_only_the_command_line_and_tests_import_the_app() -> None:
    importers = {module for module in MODULES if "engine.app" in set(imports_of(module))}
    assert {part_of(module) for module in importers} <= {"app", "cli"}


CORE = [module for module in MODULES if part_of(module) == "core"]


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_nothing_of_the_world(module: str) -> None:
    outside = {name for name in imports_of(module) if not name.startswith("engine.")} - {"engine"}
    assert {name.partition(".")[0] for name in outside} <= VALUES
    read = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
    called = {
        node.func.id
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not read & NO_CLOCK
    assert not called & {"open", "print", "input", "exec", "eval", "id"}


@pytest.mark.parametrize("module", MODULES)
def test_every_library_is_used_at_its_own_edge_only(module: str) -> None:
    for name in imports_of(module):
        library = name.partition(".")[0]
        if library == "engine" or (library in sys.stdlib_module_names and library not in LIBRARIES):
            continue
        assert library in LIBRARIES, f"{module} imports {library}: name its edge in LIBRARIES"
        edges = LIBRARIES[library]
        at_home = any(module == edge or module.startswith(f"{edge}.") for edge in edges)
        assert at_home or (module, library) in LIBRARY_EXCEPTIONS, f"{module} imports {library}"


def test_the_library_exceptions_are_still_needed() -> None:
    used = {(module, name.partition(".")[0]) for module in MODULES for name in imports_of(module)}
    assert {pair for pair in LIBRARY_EXCEPTIONS if pair not in used} == set()
