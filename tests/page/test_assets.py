"""What the page is made of: our scripts put data in as text alone; what others wrote is what its record says it is."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import penstock
from penstock._page.html import SCRIPTS, STYLES

ASSETS = Path(penstock.__file__).parent / "_page" / "assets"
VENDORED = ASSETS / "uplot"


def test_what_others_wrote_is_what_was_vendored() -> None:
    record = json.loads((VENDORED / "vendored.json").read_text())
    assert record["licence"] == "MIT"
    there = {path.name for path in VENDORED.iterdir()} - {"vendored.json"}
    assert record["sha256"].keys() == there
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest, name
    assert f"v{record['version']}" in (VENDORED / "uPlot.iife.min.js").read_text()[:100]
    assert "MIT License" in (VENDORED / "LICENSE").read_text()


def test_our_scripts_make_no_markup_of_data() -> None:
    markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    ours = sorted(ASSETS.glob("*.js"))
    assert [(path.name, found[0]) for path in ours if (found := markup.search(path.read_text()))] == []


def test_every_file_is_part_of_the_page_and_short() -> None:
    ours = {path.name for path in ASSETS.iterdir() if path.is_file()}
    assert ours == {name for name in (*SCRIPTS, *STYLES) if "/" not in name}
    assert {name: n for name in ours if (n := len((ASSETS / name).read_text().splitlines())) > 399} == {}


def test_nothing_ends_the_element_it_stands_in() -> None:
    for name in (*SCRIPTS, *STYLES):
        assert not re.search(r"</(script|style)|<!--", (ASSETS / name).read_text(), re.IGNORECASE), name


def test_no_address_of_a_network() -> None:
    allowed = {"http://www.w3.org/2000/svg"}
    for path in ASSETS.iterdir():
        if path.is_file():
            assert set(re.findall(r"https?://[^\s\"'`]+", path.read_text())) <= allowed, path.name
