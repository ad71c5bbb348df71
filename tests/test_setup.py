"""`make setup` after one that was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_setup_brings_back_the_project_file_that_a_killed_compilation_had_moved_away(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    shutil.copytree(ROOT / "engine/core", tmp_path / "engine/core")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml.bak")
    # As from a shell: these tests are started by make themselves, and one make tells the next how to behave.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", "setup"], check=False, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=60
    )
    assert planned.returncode == 0 and planned.stdout.startswith("mv pyproject.toml.bak pyproject.toml\n"), (
        planned.stderr
    )
    subprocess.run(["make", "-s", "pyproject.toml"], cwd=tmp_path, env=outside, check=True, timeout=60)
    assert (tmp_path / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
