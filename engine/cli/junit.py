"""Test results as JUnit XML, the format that CI systems read: one testsuite per file, one testcase per test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from engine.core.foreign_text import visible_text

_NO_XML = dict.fromkeys((*range(55296, 57344), 65534, 65535), "�")
"""Characters that are not allowed in XML; control characters are escaped before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: `failure` is the first difference and `detail` the whole report, None when it passed."""

    name: str
    seconds: float
    failure: str | None = None
    detail: str = ""
    error: bool = False  # it could not be run at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One file and its tests."""

    file: str
    cases: Sequence[Case]


def write_junit(path: Path, suites: Sequence[Suite]) -> None:
    """Write the results of some files. OSError when the file cannot be written."""
    root = ElementTree.Element("testsuites", _counts([case for suite in suites for case in suite.cases]))
    for suite in suites:
        child = ElementTree.SubElement(root, "testsuite", {"name": _safe(suite.file), **_counts(suite.cases)})
        for case in suite.cases:
            _add(child, suite, case)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add(parent: ElementTree.Element, suite: Suite, case: Case) -> None:
    file = _safe(suite.file)
    attributes = {"classname": file, "name": _safe(case.name), "file": file, "time": f"{case.seconds:.3f}"}
    element = ElementTree.SubElement(parent, "testcase", attributes)
    if case.failure is not None:
        kind = "error" if case.error else "failure"
        about = {"type": "InvalidFiles" if case.error else "Difference", "message": _safe(case.failure)}
        ElementTree.SubElement(element, kind, about).text = "\n".join(map(_safe, case.detail.split("\n")))


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    failed = [case for case in cases if case.failure is not None]
    errors = sum(case.error for case in failed)
    return {
        "tests": str(len(cases)),
        "failures": str(len(failed) - errors),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _safe(text: str) -> str:
    return visible_text(text).translate(_NO_XML)
