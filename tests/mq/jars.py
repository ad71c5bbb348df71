"""Apache RocketMQ's jars, by Maven, into a cache outside of the checkout. `python -m tests.mq.jars` fetches them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

VERSION: Final = "5.4.0"
PARTS: Final = ("rocketmq-namesrv", "rocketmq-broker", "rocketmq-tools")
FETCH_S: Final = 600

_DEPENDENCY: Final = (
    "<dependency><groupId>org.apache.rocketmq</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
_POM: Final = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    "<groupId>rollcall.tests</groupId><artifactId>broker</artifactId><version>1</version>"
    f"<dependencies>{''.join(_DEPENDENCY.format(part, VERSION) for part in PARTS)}</dependencies></project>"
)


class Absent(Exception):
    """What is missing for a broker, as a sentence."""


def cache() -> Path:
    """Where the jars are kept: `ROLLCALL_ROCKETMQ`, or a folder of the user's cache."""
    told = os.environ.get("ROLLCALL_ROCKETMQ")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(told) if told else home / "rollcall" / f"rocketmq-{VERSION}"


def java() -> str:
    """The Java to run a broker with."""
    found = shutil.which("java")
    if found is None:
        raise Absent("Java is not installed (Debian: apt-get install openjdk-17-jre-headless)")
    return found


def jars() -> Path:
    """The folder of jars, fetched if they are not there; Absent when they cannot be had."""
    folder = cache()
    lib = folder / "lib"
    if (folder / "complete").exists():
        return lib
    maven = shutil.which("mvn")
    if maven is None:
        raise Absent("Maven is not installed (Debian: apt-get install maven)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pom.xml").write_text(_POM)
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired as slow:
        raise Absent(f"Maven did not fetch RocketMQ within {FETCH_S} s") from slow
    if done.returncode != 0:
        raise Absent(f"Maven could not fetch RocketMQ: {done.stdout.strip()[-300:]}")
    (folder / "complete").touch()
    return lib


if __name__ == "__main__":
    try:
        print(f"RocketMQ {VERSION}: {jars()}, {java()}")
    except Absent as reason:
        sys.exit(f"RocketMQ cannot be had: {reason}")
