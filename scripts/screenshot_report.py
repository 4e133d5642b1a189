"""Make the picture of the report page in the docs: python scripts/screenshot_report.py.

Runs `penstock demo` in a temporary folder, spoils a few of its pictures, runs again, and photographs the page. Needs
what `make test` installs.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import chdir
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import penstock
from penstock._commands.report import write_page
from penstock._demo.show import MODEL, demo

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "report.webp"
WIDTH, HEIGHT = 1200, 1500


def page_of_demo(folder: Path) -> Path:
    """Return the page of a run over the lines of the demo, of which five are spoilt."""
    demo(folder)
    lines, out = folder / "lines", folder / "lines.jsonl"
    cut, empty, other = sorted(lines.glob("*.png"))[40:43], lines / "0050.png", lines / "0060.png"
    for path in cut:
        path.write_bytes(path.read_bytes()[:600])
    empty.write_bytes(b"")
    other.write_text("no picture")
    penstock.run(lines, MODEL, out=out, fresh=True)
    write_page(out, folder / "report.html")
    return folder / "report.html"


def photograph(html: Path, picture: Path) -> None:
    """Write a picture of the upper part of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(html.as_uri())
        page.screenshot(path=html.with_suffix(".png"))
        chromium.close()
    with Image.open(html.with_suffix(".png")) as shot:
        shot.save(picture, quality=80, method=6)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, chdir(name):
        photograph(page_of_demo(Path("demo")).resolve(), PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
