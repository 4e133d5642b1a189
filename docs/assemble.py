"""Puts the pages of the site together: docs/, the benchmarks' results and the changelog, with links that fit there.

python docs/assemble.py TARGET

The pages read well in the repository as they are. In the site they lie elsewhere, so links between them are turned;
what the site does not have (a script, a folder) is named and not linked.
"""

from __future__ import annotations

import os.path
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def pages(root: Path) -> dict[PurePosixPath, PurePosixPath]:
    """Return path in the repository -> path in the site, of everything that the site is made of."""
    docs = [path for path in (root / "docs").rglob("*") if path.suffix in (".md", ".svg", ".png", ".css")]
    found = {_below(root, path): _below(root / "docs", path) for path in sorted(docs)}
    for path in sorted((root / "benchmarks" / "results").glob("*.md")):
        found[_below(root, path)] = _below(root, path)
    found[PurePosixPath("benchmarks/README.md")] = PurePosixPath("benchmarks/about.md")
    found[PurePosixPath("CHANGELOG.md")] = PurePosixPath("changelog.md")
    return found


def turned(text: str, page: PurePosixPath, homes: Mapping[PurePosixPath, PurePosixPath]) -> str:
    """Return the text of `page` (its path in the repository) with links as they are in the site; code stays."""

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        named = PurePosixPath(os.path.normpath(page.parent / target))
        if named not in homes:
            return match["text"]
        there = os.path.relpath(homes[named], homes[page].parent)
        return f"{match['image']}[{match['text']}]({PurePosixPath(there)}{match['anchor'] or ''})"

    parts = CODE.split(text)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def assemble(root: Path, target: Path) -> None:
    """Write all pages below `target`, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    homes = pages(root)
    for source, home in homes.items():
        (target / home).parent.mkdir(parents=True, exist_ok=True)
        if home.suffix == ".md":
            (target / home).write_text(turned((root / source).read_text("utf-8"), source, homes), "utf-8")
        else:
            shutil.copyfile(root / source, target / home)


def _below(folder: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(folder).as_posix())


if __name__ == "__main__":
    assemble(ROOT, Path(sys.argv[1]))
