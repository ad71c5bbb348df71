"""A real HTTP proxy (proxy.py), in a process of its own on loopback."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.service import eventually, requires


@contextmanager
def proxy(folder: Path, login: str = "") -> Iterator[str]:
    """HOST:PORT of a proxy that lets everybody in, or only who knows `login` (USER:PASSWORD)."""
    requires("proxy.py", importlib.util.find_spec("proxy"))
    port = folder / "proxy-port"
    port.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port), "--num-workers", "1",
         "--num-acceptors", "1", "--log-level", "ERROR", *(["--basic-auth", login] if login else [])],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"127.0.0.1:{eventually(lambda: port.read_text().strip() if port.exists() else '', bool)}"
    finally:
        process.terminate()
        process.wait()
