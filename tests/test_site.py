"""The documentation as a site: its pages are in the navigation and linked, every error and public name is in it."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import penstock
from penstock import errors

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "assemble.py"))
HOMES = {
    PurePosixPath(repository): PurePosixPath(site)
    for repository, site in {
        "docs/a.md": "a.md",
        "docs/api/b.md": "api/b.md",
        "docs/picture.svg": "picture.svg",
        "benchmarks/README.md": "benchmarks/about.md",
        "CHANGELOG.md": "changelog.md",
    }.items()
}


@pytest.mark.parametrize(
    ("page", "text", "turned"),
    [
        ("docs/a.md", "[b](api/b.md#c) and [d](#d)", "[b](api/b.md#c) and [d](#d)"),
        ("docs/a.md", "[x](../benchmarks/README.md)", "[x](benchmarks/about.md)"),
        ("docs/api/b.md", "[x](../../CHANGELOG.md#now)", "[x](../changelog.md#now)"),
        ("benchmarks/README.md", "[a](../docs/a.md)", "[a](../a.md)"),
        ("CHANGELOG.md", "[a](docs/a.md)", "[a](a.md)"),
        ("docs/api/b.md", "![p](../picture.svg)", "![p](../picture.svg)"),
        ("docs/a.md", "[web](https://a.org/b.md), [mail](mailto:a@b)", "[web](https://a.org/b.md), [mail](mailto:a@b)"),
        ("docs/a.md", "what is not there: [a script](../examples/x.py)", "what is not there: a script"),
        ("docs/a.md", "`[a](../CHANGELOG.md)`", "`[a](../CHANGELOG.md)`"),
        ("docs/a.md", "```\nf[a](../CHANGELOG.md)\n```\n", "```\nf[a](../CHANGELOG.md)\n```\n"),
    ],
)
def test_links_are_turned_to_where_pages_lie_in_the_site(page: str, text: str, turned: str) -> None:
    assert SCRIPT["turned"](text, PurePosixPath(page), HOMES) == turned


def test_every_page_is_in_the_navigation_and_nothing_else() -> None:
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = re.findall(
        r"^ +- .*?([\w/.-]+\.md)$", config.partition("\nnav:\n")[2].partition("\nplugins:")[0], re.MULTILINE
    )
    there = {str(home) for home in SCRIPT["pages"](ROOT).values() if home.suffix == ".md"}
    assert sorted(named) == sorted(page for page in there if not page.startswith("benchmarks/results/"))


EXCEPTIONS = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.PenstockError)
]


def section(name: str) -> str:
    """Return what docs/errors.md says of an exception."""
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    return page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: error.__name__)
def test_every_exception_has_its_section(error: type[errors.PenstockError]) -> None:
    text = section(error.__name__)
    labels = re.findall(r"^\*\*(.+?)\.\*\* (.+)", text, re.MULTILINE)
    assert [label for label, _ in labels] == ["What", "Why", "What to do"]
    assert all(len(said) > 20 for _, said in labels)
    codes = {int(code) for code in re.findall(r"[Ee]xit code (\d)", text)}
    assert codes <= {error.exit_code}
    assert codes or error.exit_code == 3  # what ends a run in a way of its own has to say so


def test_no_section_is_of_an_exception_that_is_not_there() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == [error.__name__ for error in EXCEPTIONS]


def test_every_public_name_has_its_docstring_in_the_api_pages() -> None:
    pages = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs" / "api").glob("*.md")))
    assert sorted(re.findall(r"^::: penstock\.(\w+)$", pages, re.MULTILINE)) == sorted(penstock.__all__)


def test_the_picture_has_a_title_and_all_its_text_on_colours_of_its_own() -> None:
    """So that it is read on white and on black: white letters on shapes that are dark enough (WCAG AA, 4.5 : 1)."""
    space = "{http://www.w3.org/2000/svg}"
    root = ET.parse(ROOT / "docs" / "engine.svg").getroot()
    assert root.find(f"{space}title") is not None
    filled = [(box(rect), rect.get("fill", "")) for rect in root.iter(f"{space}rect") if rect.get("x")]
    texts = list(root.iter(f"{space}text"))
    assert len(texts) > 10
    for text in texts:
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        under = [fill for (left, top, right, bottom), fill in filled if left <= x <= right and top <= y <= bottom]
        assert contrast_with_white(under[-1]) >= 4.5, text.text


def box(rect: Any) -> tuple[float, float, float, float]:
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def contrast_with_white(colour: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


class Fetched(HTMLParser):
    """What a page fetches when it is opened: scripts, styles, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        wanted = given.get("href") if tag == "link" else given.get("src")
        if wanted and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.add(wanted)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    pytest.importorskip("mkdocs", reason="pip install 'penstock[docs]'")
    folder = tmp_path_factory.mktemp("site")
    SCRIPT["assemble"](ROOT, folder / "docs")
    config = (ROOT / "mkdocs.yml").read_text("utf-8").replace("docs_dir: build/docs", "docs_dir: docs")
    config = config.replace("site_dir: build/site", "site_dir: site").replace("[src]", f"[{ROOT / 'src'}]")
    (folder / "mkdocs.yml").write_text(config, "utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(folder / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder / "site"


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text("utf-8"))
        assert {name for name in reader.found if "//" in name} == set(), page


def test_the_api_pages_have_what_the_docstrings_say(site: Path) -> None:
    session = (site / "api" / "session.html").read_text("utf-8")
    assert "submit" in session
    assert "There was no room in time." in session or "there was no room in time." in session
    assert "max_size" in (site / "api" / "options.html").read_text("utf-8")
