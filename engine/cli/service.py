"""`rollcall run` and `rollcall check`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from engine.cli.options import config_option
from engine.cli.output import say
from engine.config.inventory import NO_INVENTORY, Inventory
from engine.config.inventory_file import load_inventory
from engine.config.loader import Config, load_config
from engine.config.matchers import attribute_problem
from engine.config.regular_file import shown_path
from engine.config.yamlfile import read_document
from engine.errors import InvalidFiles, Problem
from engine.log_output import occupy_standard_descriptors
from engine.rulefiles.loader import load_rules
from engine.rulefiles.receivers import routes_of_no_rule, unused_receivers
from engine.runtime.store_factory import store_problems
from engine.sources.rocketmq.client import require_library
from engine.sources.rocketmq.pipe import NativeLibraryMissing
from engine.telemetry import setup_logging


@click.command()
@config_option
def run(config_path: Path) -> None:
    """Run the service until SIGTERM or Ctrl-C. It finishes the current batch before it stops."""
    occupy_standard_descriptors()
    from engine.runtime.app import run as serve

    os.umask(0o077)  # what the service writes is for its user alone
    config = load_config(config_path)
    setup_logging(config.log.level, config.log.format)
    serve(config)


@click.command()
@config_option
@click.argument("rules", nargs=-1, type=click.Path(path_type=Path))
def check(config_path: Path, rules: tuple[Path, ...]) -> None:
    """Check the configuration, the inventory and the rules, and report every problem."""
    problems: list[Problem] = []
    found = 0
    try:
        config = load_config(config_path)
    except InvalidFiles as error:
        _end([*error.problems, *_problems_of_rules_alone(config_path, rules)])
    try:
        problems += [*config.warnings, *config.missing_packages]
        problems += _missing_libraries(config)
        problems += _problems_of_store(config)
        inventory: Inventory | None = NO_INVENTORY
        if config.inventory is not None:
            try:
                inventory = load_inventory(config.inventory)
                problems += _overrides_of_no_client(config, inventory)
            except InvalidFiles as error:
                problems += error.problems
                inventory = None  # what rules say of its columns cannot be checked
        loaded = load_rules(rules or config.rules, inventory=inventory, config=config)
        problems += loaded.problems
        found = len(loaded.rules)
        if not rules:  # else others may use them
            problems += [*unused_receivers(config, loaded.rules), *routes_of_no_rule(config, loaded.rules)]
    except InvalidFiles as error:
        problems += error.problems
    _end(problems)
    say(f"{shown_path(config_path)}: good, {found} rule{'s' if found != 1 else ''}")


def _end(problems: list[Problem]) -> None:
    """Show the problems; with an error among them, exit with 1."""
    for problem in problems:
        say(str(problem))
    errors = sum(not problem.warning for problem in problems)
    if errors:
        click.echo(f"{errors} problem{'s' if errors > 1 else ''}", err=True)
        sys.exit(1)


def _problems_of_rules_alone(config_path: Path, rules: tuple[Path, ...]) -> list[Problem]:
    """What is wrong in the rules whatever the configuration says, which does not load: its names and its inventory are not known."""
    paths = rules
    if not paths:
        document = read_document(config_path, [])
        written = (
            document.value.get("rules", "rules") if document is not None and isinstance(document.value, dict) else ()
        )
        texts = [written] if isinstance(written, str) else written if isinstance(written, list) else []
        folder = config_path.absolute().parent
        paths = tuple(folder / text for text in texts if isinstance(text, str) and (folder / text).exists())
    try:
        return list(load_rules(paths).problems) if paths else []
    except InvalidFiles as error:
        return error.problems


def _overrides_of_no_client(config: Config, inventory: Inventory) -> list[Problem]:
    """A warning for each attribute in an override of `debounce` that no row of the inventory has: the override would never count."""
    document = read_document(config.path, [])
    assert document is not None  # it has just been read
    found: list[Problem] = []
    for index, entry in enumerate(config.debounce.overrides):
        for column, patterns in entry.match.attributes:
            if problem := attribute_problem(column, patterns, inventory):
                at = ("debounce", "overrides", index, "match", "attributes", column)
                found.append(document.problem(at, problem, warning=True))
    return found


def _problems_of_store(config: Config) -> list[Problem]:
    """What is wrong with the database of several replicas: its version, the rights of the role, its clock. A warning when it is not reached."""
    found = store_problems(config)
    if not found:
        return []
    document = read_document(config.path, [])
    assert document is not None  # it has just been read
    return [document.problem(("store", "dsn"), text, warning=is_warning) for text, is_warning in found]


def _missing_libraries(config: Config) -> list[Problem]:
    """A problem for each source whose native library does not load on this machine: `run` would not start."""
    wanting = [index for index, source in enumerate(config.sources) if source.type == "rocketmq"]
    if not wanting:
        return []
    try:
        require_library()
    except NativeLibraryMissing as error:
        document = read_document(config.path, [])
        assert document is not None  # it has just been read
        return [document.problem(("sources", index, "type"), str(error)) for index in wanting]
    return []
