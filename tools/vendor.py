#!/usr/bin/env python3
"""Fetches the libraries of the report's page from npm, checks them, and puts them where they are shipped: vendor (make vendor).

What is fetched stands in pins.json: name, version, the tarball's integrity (npm's own hash), and which of its files is shipped.
"""

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "plugins/plugin_utils/report/assets/vendor"


def fetched(package: str, version: str, integrity: str) -> tarfile.TarFile:
    """Fetch a package.

    Args:
        package: its name.
        version: the whole version.
        integrity: ``sha512-...``, as npm has it.

    Returns:
        the package's archive.

    Raises:
        SystemExit: it is another one.
    """
    with tempfile.TemporaryDirectory() as home:
        command = ["npm", "pack", "--silent", f"{package}@{version}"]
        subprocess.run(command, cwd=home, check=True, stdout=subprocess.PIPE)
        content = next(Path(home).glob("*.tgz")).read_bytes()
    found = f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
    if found != integrity:
        raise SystemExit(f"{package} {version}: its integrity is {found}, and {integrity} is pinned")
    return tarfile.open(fileobj=io.BytesIO(content))


def member(archive: tarfile.TarFile, path: str) -> bytes:
    """Give one file of a package."""
    file = archive.extractfile(f"package/{path}")
    if file is None:
        raise SystemExit(f"the package has no {path}")
    return file.read()


def main() -> int:
    """Write all files, and their hashes."""
    pins = json.loads((FOLDER / "pins.json").read_text(encoding="utf-8"))
    for pin in pins:
        archive = fetched(pin["package"], pin["version"], pin["integrity"])
        content = member(archive, pin["path"])
        (FOLDER / pin["file"]).write_bytes(content)
        (FOLDER / pin["licence_file"]).write_bytes(member(archive, pin["licence_path"]))
        pin["sha256"] = hashlib.sha256(content).hexdigest()
    (FOLDER / "pins.json").write_text(json.dumps(pins, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
