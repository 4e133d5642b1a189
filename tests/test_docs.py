"""The code in the README and in docs/ runs: every Python block, in a folder with a few small pictures.

The blocks of one page share their names and run in order, as a reader would type them. A block that needs what a
test has not (a model of the reader's own, a network) stands below `<!-- test: skip reason -->`; a reason is required.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]
BLOCK = re.compile(
    r"(?:^<!-- test: skip(?P<reason>[^\n]*?)-->\n+)?^```python[^\n]*\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One block of code: the line it starts on, and why it is not run, if it is not."""

    line: int
    code: str
    reason: str | None


def blocks(page: str) -> Iterator[Block]:
    """Yield the Python blocks of a page of Markdown."""
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("code")) + 1
        reason = match.group("reason")
        yield Block(line, match.group("code"), None if reason is None else reason.strip())


def run_blocks(path: Path) -> None:
    """Run the blocks of a page one after another, with the page's own line numbers in a traceback."""
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(path.read_text("utf-8")):
        if block.reason is None:
            exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), names)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where a reader would: a folder with `photos/`, three pictures in two classes."""
    image = pytest.importorskip("PIL.Image", reason="pillow makes the pictures: pip install 'penstock[images]'")
    for number, name in enumerate(("photos/cats/1.jpg", "photos/cats/2.jpg", "photos/dogs/1.jpg")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (320, 240), (60 * number, 120, 200)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["python"])
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs(page: Path, reader: Path) -> None:
    run_blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    assert [block.line for block in blocks(page.read_text("utf-8")) if block.reason == ""] == []


def test_blocks_run_in_order_and_share_their_names(reader: Path) -> None:
    page = reader / "page.md"
    first, second = "x = 1", "open(f'{x + 1}', 'w').close()"
    page.write_text(f"```python\n{first}\n```\n```sh\nfalse\n```\n```python\n{second}\n```\n", "utf-8")
    run_blocks(page)
    assert (reader / "2").exists()


def test_a_broken_block_fails_with_the_line_of_the_page(reader: Path) -> None:
    page = reader / "page.md"
    page.write_text("One.\n\n```python\nx = 1\n1 / 0\n```\n", "utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        run_blocks(page)
    assert caught.traceback[-1].lineno == 4  # counted from 0: the fifth line of the page


def test_a_block_is_skipped_with_its_reason_only() -> None:
    skipped = "<!-- test: skip needs a GPU -->\n```python\nboom\n```\n"
    page = skipped + "<!-- test: skip -->\n\n```python\nx\n```\n" + "```python\ny\n```\n"
    assert [(block.line, block.reason) for block in blocks(page)] == [(3, "needs a GPU"), (8, ""), (11, None)]
