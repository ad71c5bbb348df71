"""What the contract says of rules, told as scenarios and played by the real `rollcall test`.

The expectations were written from the words alone (sections 4 to 7), before the engine was asked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay.writing import run

HERE = Path(__file__).parent
FILES = sorted(file.name for file in HERE.glob("*.test.yaml"))


@pytest.mark.parametrize("file", FILES)
def test_the_engine_does_what_the_contract_says(file: str) -> None:
    done = run(HERE, file)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert " passed (" in done.stdout.splitlines()[-1]
