"""One file: what is in it can neither end the element it stands in nor run."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from penstock._page.html import embedded, page

NASTY = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028&amp;\udce9\x00"
DATA: dict[str, Any] = {
    "name": NASTY,
    "run": {"timeline": [], "rate": math.nan},
    "failures": [NASTY],
    "evaluation": None,
}


class Parsed(HTMLParser):
    """The elements of a page, with the text in scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("script", "style", "title"):
            self.inside.append((self.tags[-1], data))


def test_data_comes_back_as_it_was() -> None:
    text = embedded({"a": NASTY, "b": [1.5, None, math.inf]})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": NASTY, "b": [1.5, None, None]}


@pytest.mark.parametrize("live", [False, True])
def test_names_end_no_element(live: bool) -> None:
    text = page(DATA, live=live)
    text.encode()  # a lone surrogate in a name is no reason why there is no page
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 2
    assert parsed.tags.count("style") == 1
    assert "img" not in parsed.tags
    found = next(json.loads(inside) for tag, inside in parsed.inside if tag == "script")
    assert (found["name"], found["live"]) == (NASTY, live)


@pytest.mark.parametrize("live", [False, True])
def test_the_policy_lets_our_own_script_and_style_run_and_nothing_else(live: bool) -> None:
    text = page(DATA, live=live)
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert found is not None
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for name, (inside,) in {"script-src": scripts, "style-src": styles}.items():
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == ("'self'" if live else "'none'")
    assert policy["img-src"] == "data:"


def test_no_element_has_a_style_or_a_handler_or_an_address_of_its_own() -> None:
    names = {name for name, _ in Parsed(page(DATA)).attributes}
    assert names <= {"lang", "charset", "http-equiv", "content", "name", "type", "id"}
