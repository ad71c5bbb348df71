"""A certificate authority of our own, in a folder: certificates for 127.0.0.1 and localhost, also one that ran out long ago."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.acceptance.service import requires

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LONG_AGO = """[ca]
default_ca = ours
[ours]
database = index.txt
new_certs_dir = .
serial = serial.txt
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost,IP:127.0.0.1
"""


class Authority:
    """Files in PEM: `ca`, and for each name that was asked for `NAME.pem` and `NAME.key`."""

    def __init__(self, folder: Path) -> None:
        requires("openssl", shutil.which("openssl"))
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", *KEY, "-days", "2", "-subj", "/CN=ours", "-keyout", "ca.key", "-out", "ca.pem")
        (folder / "ca.cnf").write_text(LONG_AGO)
        (folder / "index.txt").touch()
        (folder / "serial.txt").write_text("01\n")

    def issue(self, name: str, begins: str = "", ends: str = "21000101000000Z") -> tuple[Path, Path]:
        """A certificate and its key; `begins` and `ends` as YYYYMMDDHHMMSSZ."""
        self._openssl("req", *KEY, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        dates = ("-startdate", begins or "20200101000000Z", "-enddate", ends)
        self._openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", *dates, "-in", f"{name}.csr",
                      "-out", f"{name}.pem", "-notext")  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
