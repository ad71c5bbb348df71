"""Who may import whom: the table of the design, held against the imports of every module, folder by folder.

A room is a folder of `engine/`. Inside the four rooms of adapters (`sources`, `stores`, `status`, `actions`) each folder is one adapter, and
each module beside those folders is shared by them. A room may import itself, what `MAY` names for it, and the exceptions listed
with a reason. Imports inside functions count.
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

FLAT = {
    "engine",
    "engine.clock",
    "engine.errors",
    "engine.log_output",
    "engine.lookup",
    "engine.telemetry",
    "engine.testing",
    "engine.__main__",
}
"""The only modules that lie in no room."""

SEAMS = {"sources.base", "stores.base", "status.base", "actions.base"}
"""What an adapter looks like from outside: the one module of an adapters' room that other rooms may know."""

MAY: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "lookup": set(),
    "log_output": set(),
    "telemetry": {"core", "errors", "log_output"},
    "core": {"errors"},
    "config": {"core", "errors"},
    "templates": {"core", "errors", "config"},
    "rulefiles": {"core", "errors", "config", "templates"},
    "sources": {"core", "errors", "clock", "telemetry", "config"},
    "stores": {"core", "errors", "telemetry", *SEAMS},
    "status": {"core", "errors", "clock", "telemetry", "lookup", "config"},
    "actions": {"core", "errors", "clock", "telemetry", "lookup", "config"},
    "queries": {"core", "errors", "clock", "telemetry", "templates", *SEAMS},
    "delivery": {"core", "errors", "clock", "telemetry", "templates", *SEAMS},
    "insights": {"core", "errors", "stores.base"},
    "web": {"core", "errors", "clock", "telemetry", "insights", *SEAMS},
}
"""What each room may import beside itself. `runtime`, `replay` and `cli` may import everything below them, see `ABOVE`."""

ABOVE: dict[str, set[str]] = {
    "runtime": {"replay", "cli", "testing"},
    "replay": {"cli"},
    "cli": set(),
    "testing": set(),
}
"""The rooms that put the others together, and what tests are built with, each with the rooms that may import it."""

ADAPTERS = ("sources", "stores", "status", "actions")

EXCEPTIONS = {
    ("engine", "engine.status.client"): "the name `from engine import StatusClient`, loaded when it is asked for",
}
"""Imports against the table, each with its reason."""

VALUES = {"__future__", "bisect", "collections", "dataclasses", "datetime", "email", "functools", "hashlib", "heapq", "ipaddress",
          "itertools", "json", "math", "mypy_extensions", "operator", "re", "typing"}  # fmt: skip
"""The standard library that the pure core may use: nothing of it reads a clock, the world or chance."""

NO_CLOCK = {"now", "utcnow", "today", "fromtimestamp"}
"""Names on `datetime` that read the machine's clock or time zone."""

LIBRARIES = {
    "argon2": ["engine.web.access.passwords"],
    "authlib": ["engine.web.access.oidc"],
    "joserfc": ["engine.web.access.oidc"],  # the signatures of authlib
    "aiohttp": ["engine.actions", "engine.runtime.heartbeat"],
    "apprise": ["engine.actions.receivers.apprise"],
    "aiormq": ["engine.sources.amqp"],
    # The vendor's SDK, in three packages.
    "alibabacloud_onsmqtt20200420": ["engine.status.openapi"],
    "alibabacloud_tea_openapi": ["engine.status.openapi"],
    "alibabacloud_tea_util": ["engine.status.openapi"],
    "darabonba": ["engine.status.openapi"],
    "aiosmtplib": ["engine.actions.email.sender", "engine.actions.email.connections", "engine.actions.email.replies"],
    "apscheduler": ["engine.config.cron"],
    "backports": ["engine.web.content_encoding"],  # zstd, which later Pythons bring along
    "click": ["engine.cli"],
    "fastapi": ["engine.web"],
    "jinja2": ["engine.templates.compiler", "engine.templates.text", "engine.templates.fast_path", "engine.templates.sandbox", "engine.templates.lint", "engine.web",
               "engine.templates.lint_calls", "engine.templates.lint_equal", "engine.templates.lint_scope", "engine.templates.lint_types", "engine.templates.lint_uncalled", "engine.templates.shapes", "engine.templates.breakouts", "engine.templates.burst_summary",
               "engine.cli"],
    "markupsafe": ["engine.templates.sandbox", "engine.web"],
    "jsonschema": ["engine.config.schema"],
    "multidict": ["engine.actions.webhook.request", "engine.actions.notify"],  # aiohttp's own headers
    "msgspec": ["engine.sources", "engine.stores", "engine.actions", "engine.replay.runner", "engine.telemetry", "engine.web.serializers", "engine.templates.renderer",
                "engine.web", "engine.templates.command"],
    "mypy_extensions": ["engine.core"],  # hints for the compiler, without effect where there is none
    "paho": ["engine.actions.command.mqtt_client"],
    "pamqp": ["engine.sources.amqp.frames", "engine.sources.amqp.source"],  # aiormq's own parser
    "prometheus_client": ["engine.web", "engine.telemetry"],
    "psycopg": ["engine.stores.postgres"],
    "re2": ["engine.config.patterns"],
    "requests": ["engine.cli", "engine.status", "engine.web.access.oidc"],
    "rich": ["engine.cli"],
    "rocketmq": ["engine.sources.rocketmq.binding", "engine.sources.rocketmq.native_producer"],
    "sqlite3": ["engine.stores.sqlite"],
    "starlette": ["engine.web"],
    "structlog": ["engine.telemetry"],
    "h11": ["engine.runtime.http_connections"],  # the parser of uvicorn
    "urllib3": ["engine.status.bounded"],  # the connections of requests
    "uvicorn": ["engine.runtime.http_server", "engine.runtime.http_connections"],
    "uvloop": ["engine.runtime.app", "engine.actions.webhook.process"],
    "watchfiles": ["engine.sources.file.source"],
    "yarl": ["engine.actions.webhook", "engine.runtime.heartbeat", "engine.sources.amqp.source", "engine.sources.amqp.transport"],  # its own addresses, and those of aiormq
    "yaml": ["engine.config.yamlfile", "engine.config.inventory"],
}  # fmt: skip
"""Where a library may be imported: at the one edge that it serves."""


def room_of(module: str) -> str:
    """The room a module lies in: a folder of `engine/`, or the module itself when it lies flat."""
    return module.split(".")[1] if module != "engine" else "engine"


def seam_of(module: str) -> str:
    """The module as the table of the adapters' rooms names it: `sources.base` for `engine.sources.base`."""
    return ".".join(module.split(".")[1:3])


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


def is_allowed(module: str, other: str) -> bool:
    """May `module` import `other`, both of ours?"""
    here, there = room_of(module), room_of(other)
    if here == there or there == "engine" or (module, other) in EXCEPTIONS:
        return True
    if there in ABOVE:
        return here in ABOVE[there]
    return here in ABOVE or there in MAY[here] or seam_of(other) in MAY[here]


def refused(module: str) -> list[str]:
    """The imports of a module that its room does not allow."""
    ours = [other for other in imports_of(module) if other.partition(".")[0] == "engine"]
    return [f"{module} imports {other}" for other in ours if not is_allowed(module, other)]


def adapter_of(module: str) -> str | None:
    """The adapter that a module belongs to: its folder inside an adapters' room; None for what adapters share."""
    parts = module.split(".")
    inside = len(parts) > 2 and parts[1] in ADAPTERS
    return ".".join(parts[1:3]) if inside and (ENGINE / parts[1] / parts[2]).is_dir() else None


def test_nothing_lies_flat_but_what_every_room_needs() -> None:
    flat = {
        module
        for module in MODULES
        if module.count(".") < 2 and not (ENGINE.parent / module.replace(".", "/")).is_dir()
    }
    assert flat <= FLAT


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_only_what_its_room_may(module: str) -> None:
    assert refused(module) == []


@pytest.mark.parametrize("module", [module for module in MODULES if adapter_of(module) is not None])
def test_no_adapter_imports_another(module: str) -> None:
    others = {adapter_of(other) for other in imports_of(module)}
    assert others <= {adapter_of(module), None}


def test_no_two_rooms_import_each_other() -> None:
    arrows = {
        (room_of(module), room_of(other)) for module in MODULES for other in imports_of(module) if other in MODULES
    }
    circles = {(one, other) for one, other in arrows if one < other and (other, one) in arrows}
    assert {pair for pair in circles if "engine" not in pair} == set()


def test_the_exceptions_are_still_needed() -> None:
    used = {(module, other) for module in MODULES for other in imports_of(module)}
    assert {pair for pair in EXCEPTIONS if pair not in used} == set()


CORE = [module for module in MODULES if room_of(module) == "core"]


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
        assert at_home, f"{module} imports {library}"
