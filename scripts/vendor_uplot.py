"""Bring uPlot, the charts of the report page, from the npm registry into the package.

python scripts/vendor_uplot.py 1.6.32

Needs npm. What is brought is written down beside it, with its version, licence and hashes, which a test checks.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PLACE = Path(__file__).resolve().parents[1] / "src" / "penstock" / "_page" / "assets" / "uplot"
FILES = ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE")


def vendor(version: str) -> None:
    """Put the files of this version in place, with their record."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", f"uplot@{version}"], cwd=folder, check=True)
        (packed,) = Path(folder).glob("*.tgz")
        with tarfile.open(packed) as archive:
            found = {name: archive.extractfile(f"package/{name}") for name in (*FILES, "package.json")}
            texts = {name: file.read() for name, file in found.items() if file is not None}
    about = json.loads(texts.pop("package.json"))
    hashes = {}
    for name, text in texts.items():
        path = PLACE / Path(name).name
        path.write_bytes(text)
        hashes[path.name] = hashlib.sha256(text).hexdigest()
    record = {"name": "uplot", "version": about["version"], "licence": about["license"], "from": about["homepage"]}
    (PLACE / "vendored.json").write_text(json.dumps({**record, "sha256": hashes}, indent=2) + "\n")


if __name__ == "__main__":
    vendor(sys.argv[1])
