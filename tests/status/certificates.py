"""A certificate of our own for 127.0.0.1, for a stand-in that speaks TLS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.acceptance.service import requires


def made_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key, valid for two days, signed by itself."""
    requires("openssl", shutil.which("openssl"))
    made = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return made
