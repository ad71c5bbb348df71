"""Puts Apache's native RocketMQ client beside `rocketmq-client-python`, on Linux x86-64, from the package registry.

`python -m engine.sources.rocketmq.native` (`make rocketmq-native`). The Python package binds a C library that it does not
carry. The wheel `rocketmq` 0.4.4 carries one (rocketmq-client-cpp of the 1.x line, Apache License 2.0) that lacks four
producer functions which version 2.0.0 of the binding names at import and which nothing here calls. So:

1. install the Python package, if it is absent; 2. download that wheel and compare its hash; 3. lay the library under
`site-packages/rocketmq/native/`; 4. compile a stub that defines the four as failing and is linked to the library, as
`site-packages/rocketmq/librocketmq.so`, which the binding loads before any other.

Doing it again changes nothing. Elsewhere (macOS, ARM) install Apache's rocketmq-client-cpp 2.x package instead.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "rocketmq-client-python==2.0.0"
WHEEL: Final = "rocketmq==0.4.4"
WHEEL_SHA256: Final = "19a10219f5074d1050e88cdbdfed3903a374b3f83c0dd2c8773e1e93e33ad02d"
DOWNLOAD_S: Final = 300

STUB: Final = r"""
/* What the binding names at import and the library of the wheel lacks. Nothing calls them; if something did, it failed. */
#include <stddef.h>
#define NOT_SUPPORTED (-1)
void *CreateOrderlyProducer(const char *group) { (void)group; return NULL; }
void *CreateTransactionProducer(const char *group, void *check, void *user) {
    (void)group; (void)check; (void)user; return NULL;
}
int SendMessageOrderlyByShardingKey(void *producer, void *message, const char *key, void *result) {
    (void)producer; (void)message; (void)key; (void)result; return NOT_SUPPORTED;
}
int SendMessageTransaction(void *producer, void *message, void *execute, void *user, void *result) {
    (void)producer; (void)message; (void)execute; (void)user; (void)result; return NOT_SUPPORTED;
}
"""


class CannotInstall(Exception):
    """What is in the way, as a sentence."""


def install(site: Path | None = None) -> str:
    """Make the library loadable; what was done, as a sentence. CannotInstall with the reason when it cannot be."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotInstall(
            "this works only on Linux x86-64; on other systems, install Apache's rocketmq-client-cpp 2.x"
        )
    folder = (site or Path(sysconfig.get_path("platlib"))) / "rocketmq"
    if not (folder / "ffi.py").exists():
        _pip("install", PACKAGE)
    if _is_loadable():
        return "the native RocketMQ library is already installed and loads"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotInstall("a C compiler is needed (Debian: apt-get install gcc libc6-dev)")
    with tempfile.TemporaryDirectory() as work:
        _unpack(_download(Path(work)), folder / "native")
        _compile(compiler, Path(work), folder)
    if not _is_loadable():
        raise CannotInstall(
            f"{folder / 'librocketmq.so'} was built but does not load: {_loading().stderr.strip()[-300:]}"
        )
    return f"the native RocketMQ library was installed in {folder}"


def _loading() -> subprocess.CompletedProcess[str]:
    """The binding, imported in a process of its own: a failed load cannot be undone in this one."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import rocketmq.ffi"], capture_output=True, text=True, check=False
    )


def _is_loadable() -> bool:
    return _loading().returncode == 0


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "-q", "--disable-pip-version-check", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    if done.returncode != 0:
        raise CannotInstall(f"pip {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")


def _download(work: Path) -> Path:
    """The wheel, which is the one that was tried."""
    _pip("download", "--no-deps", "--only-binary", ":all:", "-d", str(work), WHEEL)
    (wheel,) = work.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise CannotInstall(f"{wheel.name} is not the expected file: its SHA-256 is {found}")
    return wheel


def _unpack(wheel: Path, native: Path) -> None:
    """Lay the library and what it is linked to into a folder of their own."""
    (native / ".libs").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name == "rocketmq/librocketmq.so":
                _write(native / "librocketmq.so", archive.read(name))
            elif name.startswith("rocketmq/.libs/") and not name.endswith("/"):
                _write(native / ".libs" / Path(name).name, archive.read(name))


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once: a process that has the old one loaded keeps it."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(path)


def _compile(compiler: str, work: Path, folder: Path) -> None:
    source, made = work / "stub.c", work / "librocketmq_stub.so"
    source.write_text(STUB)
    # The name inside differs from the library's own, or the loader would take the one for the other.
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-Wl,--no-as-needed"]
    command += [f"-L{folder / 'native'}", "-lrocketmq", "-Wl,-rpath,$ORIGIN/native", "-Wl,-soname,librocketmq_stub.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotInstall(f"the stub does not compile: {done.stderr.strip()[-500:]}")
    _write(folder / "librocketmq.so", made.read_bytes())


def main() -> int:
    """Install and say so; 1 when it could not be done."""
    try:
        print(install())
    except (CannotInstall, OSError, subprocess.TimeoutExpired) as error:
        print(f"cannot install the native RocketMQ library: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
