"""Apache RocketMQ's jars, by Maven, into a cache outside of the checkout. `python -m tests.mq.jars` fetches them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.fetched import Absent, cache_folder, fetch, is_complete, program

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


def cache() -> Path:
    """Where the jars are kept: `ROLLCALL_ROCKETMQ`, or a folder of the user's cache."""
    return cache_folder("ROLLCALL_ROCKETMQ", f"rocketmq-{VERSION}")


def java() -> str:
    """The Java to run a broker with."""
    return program("java", "Java", "openjdk-17-jre-headless")


def jars() -> Path:
    """The folder of jars, fetched if they are not there; Absent when they cannot be had."""
    folder = cache()
    lib = folder / "lib"
    if not is_complete(folder):
        maven = program("mvn", "Maven", "maven")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(_POM)
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
        fetch(command, folder, "Maven", "RocketMQ", FETCH_S)
    return lib


if __name__ == "__main__":
    try:
        print(f"RocketMQ {VERSION}: {jars()}, {java()}")
    except Absent as reason:
        sys.exit(f"RocketMQ cannot be had: {reason}")
