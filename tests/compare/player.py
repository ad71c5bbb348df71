"""Runs commands of one version of Rollcall in one process, many after the other: starting an interpreter each time takes long.

Run by the Python of the version that is played: `python -P player.py LABEL`. The first line that it writes says what it plays
(`{"engine": PATH, "compiled": BOOL}`). Then each line of standard input is a job, `{"folder": F, "commands": {NAME: ARGUMENTS}}`: each
command runs in F, its standard output and error go to `F/LABEL.NAME.out` and `.err`, `{label}` in its arguments is LABEL, and one
line with the exit codes by name is the answer.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import engine
from engine.cli import main


def run(arguments: Sequence[str], out: Path, err: Path) -> int:
    """One command, with its output in two files; returns its exit code."""
    for file, number in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    code: object = 0
    try:
        main(list(arguments), prog_name="rollcall")
    except SystemExit as done:
        code = done.code
    except BaseException as error:  # noqa: BLE001 - whatever a version does, the other one is compared with it
        print(f"player: {error!r}", file=sys.stderr)
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


def _is_compiled() -> bool:
    names = ("engine.core.presence.resolver", "engine.core.resolver")  # where it lies in newer and in older versions
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        if found is not None and found.origin is not None:
            return found.origin.endswith(".so")
    return False


def _play(label: str) -> None:
    """Answer one job after the other until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"engine": engine.__file__, "compiled": _is_compiled()}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        folder = Path(job["folder"])
        os.chdir(folder)
        codes = {}
        for name, arguments in job["commands"].items():
            filled = [argument.replace("{label}", label) for argument in arguments]
            codes[name] = run(filled, folder / f"{label}.{name}.out", folder / f"{label}.{name}.err")
        print(json.dumps(codes), file=answers, flush=True)


if __name__ == "__main__":
    _play(sys.argv[1])
