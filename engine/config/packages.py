"""Packages that only some configurations need, and that are therefore not always installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping


def missing_package(packages: Mapping[str, str], name: str) -> str | None:
    """A sentence that says how to install the package that `packages` holds for `name`; None when nothing is missing."""
    package = packages.get(name)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"needs the package {package}: pip install 'rollcall-presence[{name}]'"
