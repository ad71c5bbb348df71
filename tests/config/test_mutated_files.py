"""The shipped examples, mutated: whatever becomes of them, loading ends in rules or in problems with a file and a line.

`ROLLCALL_MUTATIONS` sets how many mutations are tried (by default a few hundred; the long run has 50,000).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.config.inventory_file import load_inventory
from engine.config.loader import load_config
from engine.errors import InvalidFiles
from engine.replay.scenarios.file import load_scenarios
from engine.rulefiles.loader import load_rules

ROOT = Path(__file__).parents[2]
MUTATIONS = int(os.environ.get("ROLLCALL_MUTATIONS", "300"))
SEED = int(os.environ.get("ROLLCALL_SEED", "1"))

PIECES = [
    *(
        b"\0",
        b"\xff",
        b"\t",
        b"\r",
        b"\x1b[31m",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\n---\n",
        b"\n...\n",
    ),
    *(
        b"{{",
        b"}}",
        b"{%",
        b"%}",
        b"{#",
        b"[",
        b"]",
        b"{",
        b"}",
        b"'",
        b'"',
        b"|",
        b">",
        b"*a",
        b"&a ",
        b"!!int ",
        b"<<: ",
        b"? ",
    ),
    *(
        b": ",
        b"- ",
        b"#",
        b"%",
        b"@",
        b"`",
        b"~",
        b"null",
        b"true",
        b"on",
        b"-1",
        b"0",
        b"1e999",
        b"9" * 400,
        b"0x",
        b".nan",
    ),
    *(
        b"re:",
        b"re:(",
        rb"re:\pL{500}",
        b"[!",
        b"**",
        b"@@@",
        b"10.0.0.0/33",
        b"::1%x",
        b"http://127.1/",
        b"1y",
        b"-5s",
        b"99d99d",
    ),
    *(
        b"a" * 5_000,
        b"[" * 300,
        b"  " * 200,
        b"(" * 200,
        b"not " * 100,
        b"client.",
        b"|replace(old='a', old='b')",
        b"__class__",
    ),
    *(
        "ſ".encode(),
        "İ".encode(),
        "٣".encode(),
        "\U0001f600".encode(),
        b"2026-99-99",
        b"24:61",
        b"Europe/Nowhere",
        b"*/0 * * * *",
    ),
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to three changes: pieces put in, cut out, copied elsewhere, or bytes replaced."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice([1, 1, 2, 8, 40, 400]))
        kind = chance.randrange(5)
        if kind == 0:
            content = content[:at] + chance.choice(PIECES) + content[at:]
        elif kind == 1:
            content = content[:at] + content[end:]
        elif kind == 2:
            content = content[:at] + chance.choice(PIECES) + content[end:]
        elif kind == 3:
            other = chance.randrange(len(content) + 1)
            content = content[:at] + content[other : other + chance.choice([4, 30, 300])] + content[at:]
        else:
            content = content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
    return content


def examples() -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Every shipped file that people write, and what loads it."""
    yield Path("config.example.yaml"), load_config
    yield Path("rules/inventory.csv"), load_inventory
    for file in sorted((ROOT / "rules").rglob("*.yaml")):
        name = file.relative_to(ROOT)
        yield name, load_scenarios if ".test." in file.name else lambda path: load_rules([path])


def check_problems(error: InvalidFiles) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.file and problem.line >= 1 and problem.column >= 1 and problem.message, problem
        text = str(problem)
        assert text.isprintable() and len(text) < 10_000, repr(text)
        text.encode()


@pytest.mark.timeout(3_600)  # of the long run
@pytest.mark.parametrize("name", [str(name) for name, _ in examples()])
def test_a_mutated_example_loads_or_is_told(name: str, tmp_path: Path) -> None:
    files = list(examples())
    load = next(load for found, load in files if str(found) == name)
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    (tmp_path / "inventory.yaml").write_text("- {client: G@@@a, site: north}\n")
    content = (ROOT / name).read_bytes()
    chance = random.Random(f"{SEED} {name}")
    target = tmp_path / name
    for _ in range(max(1, MUTATIONS // len(files))):
        target.write_bytes(mutated(content, chance))
        try:
            load(target)
        except InvalidFiles as error:
            check_problems(error)


@pytest.mark.timeout(3_600)
def test_a_mutated_inventory_in_yaml_loads_or_is_told(tmp_path: Path) -> None:
    rows = "".join(f"- {{client: 'G@@@d{n}', site: north, shift: {n}}}\n" for n in range(20)).encode()
    chance = random.Random(f"{SEED} inventory")
    target = tmp_path / "inventory.yaml"
    for _ in range(max(1, MUTATIONS // 20)):
        target.write_bytes(mutated(rows, chance))
        try:
            load_inventory(target)
        except InvalidFiles as error:
            check_problems(error)
