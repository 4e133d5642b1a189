"""The page in a real browser: it asks nothing of anybody, its filters and sorts work, no name in it does anything."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock._commands.report import write_page
from penstock._page.html import page

pytest.importorskip("PIL.Image")
Look = Callable[..., Any]
NASTY = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def html(job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(job, path)
    return path


@pytest.fixture
def seen(html: Path, look: Look) -> Any:
    return look(html.as_uri())


def test_it_opens_from_a_file_and_asks_nothing_of_anybody(seen: Any, html: Path) -> None:
    assert seen.page.title() == "flowers.jsonl - penstock"
    assert [url for url in seen.requests if not url.startswith("data:")] == [html.as_uri()]
    assert seen.complaints == []
    assert seen.page.locator("#cards .card img").count() == 36
    assert all(seen.page.eval_on_selector_all("#cards .card img", "all => all.map(one => one.naturalWidth)"))


def test_nothing_that_is_put_into_it_may_ask_for_anything(seen: Any) -> None:
    seen.page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    seen.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    seen.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'alert(3)'}))"
    )
    assert len([text for text in seen.complaints if "Content Security Policy" in text]) >= 3
    assert not [text for text in seen.complaints if text == "3"]


def test_the_summary(seen: Any) -> None:
    tiles = dict(zip(seen.texts(".summary .tile dt"), seen.texts(".summary .tile dd"), strict=True))
    assert (tiles["items"], tiles["done"], tiles["failed"]) == ("94", "9095.7 %", "44.3 %")
    assert tiles["right"] == "85.6 %of 90 judged"
    assert seen.texts("#state") == ["complete"]
    assert "slowest stage" in seen.texts(".verdict")[0]


def test_a_name_does_nothing(seen: Any) -> None:
    seen.page.fill("#find-search", "onerror")
    assert seen.texts("#cards .card .id") == [f"roses/{NASTY}"]
    assert seen.page.locator("img[src=x]").count() == 0
    seen.page.click("#cards .card button")
    assert seen.texts("#item-id") == [f"roses/{NASTY}"]
    assert seen.complaints == []


def test_failures_are_grouped_by_cause(seen: Any) -> None:
    assert seen.texts("#failures h2") == ["4 failures, 2 causes"]
    assert seen.texts(".cause .message")[0] == "all of its … pixels are black"
    assert seen.page.locator(".cause").first.locator("img").count() == 3
    assert seen.texts(".cause .where")[0].startswith("model")


def test_wrong_only(seen: Any) -> None:
    seen.page.select_option("#find-only", "wrong")
    assert seen.texts(".count") == ["13 of 90 results"]
    assert len(seen.texts("#cards .card .said.wrong")) == 13
    seen.page.click(".tools button[type=reset]")
    assert seen.texts(".count") == ["90 results"]
    assert seen.page.input_value("#find-only") == "all"


def test_by_class_and_truth(seen: Any) -> None:
    seen.page.select_option("#find-said", "roses")
    assert set(seen.texts("#cards .card .said")) == {"roses"}
    seen.page.select_option("#find-truth", "daisy")
    assert set(seen.texts("#cards .card .truth")) == {"is daisy"}
    assert seen.page.locator("#cards .card").count() == 5


def test_scores_at_most_and_sorted(seen: Any) -> None:
    seen.page.select_option("#find-sort", "low")
    scores = [float(text) for text in seen.texts("#cards .card .score")]
    assert scores == sorted(scores)
    seen.page.select_option("#find-sort", "high")
    assert float(seen.texts("#cards .card .score")[0]) >= max(scores)
    middle = math.ceil(100 * sorted(scores)[10]) + 1
    seen.page.fill("#find-below", str(middle))
    assert 0 < seen.page.locator("#cards .card").count() < 90
    assert all(float(text) <= middle / 100 + 0.005 for text in seen.texts("#cards .card .score"))


def test_pages_of_results(seen: Any) -> None:
    first = seen.texts("#cards .card .id")
    seen.page.click(".found .pager button:has-text('Next')")
    seen.page.click(".found .pager button:has-text('Next')")
    assert seen.texts(".found .at") == ["page 3 of 3"]
    assert seen.page.locator("#cards .card").count() == 90 - 2 * 36
    assert seen.page.is_disabled(".found .pager button:has-text('Next')")
    assert not set(first) & set(seen.texts("#cards .card .id"))


def test_by_the_keyboard_alone(seen: Any) -> None:
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the report"
    seen.page.focus("#cards .card button")
    seen.page.keyboard.press("Enter")
    first = seen.texts("#item-id")
    seen.page.keyboard.press("ArrowRight")
    assert seen.texts("#item-id") != first
    seen.page.keyboard.press("ArrowLeft")
    assert seen.texts("#item-id") == first
    seen.page.keyboard.press("Escape")
    assert not seen.page.is_visible("dialog")
    assert seen.page.evaluate("document.activeElement.closest('.card') !== null")


def test_a_number_of_the_matrix_shows_its_items(seen: Any) -> None:
    wrong = seen.page.locator(".matrix td.wrong button").first
    n = int(wrong.text_content())
    wrong.click()
    assert seen.texts(".count") == [f"{n} of 90 results"]
    assert len(seen.texts("#cards .card .said.wrong")) == n


def test_tables_sort(seen: Any) -> None:
    items = "#steps tbody tr td:nth-child(2)"
    before = seen.texts("#steps tbody th")
    seen.page.click("#steps thead button:has-text('step')")
    assert seen.texts("#steps tbody th") == sorted(before)
    assert seen.page.get_attribute("#steps thead th:has-text('step')", "aria-sort") == "ascending"
    seen.page.click("#steps thead button:has-text('step')")
    assert seen.texts("#steps tbody th") == sorted(before, reverse=True)
    seen.page.click("#steps thead button:has-text('items')")
    numbers = [int(text) for text in seen.texts(items)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 1


def test_the_switch_between_light_and_dark(html: Path, look: Look) -> None:
    def paper(seen: Any) -> str:
        return str(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = (look(html.as_uri(), color_scheme=scheme) for scheme in ("light", "dark"))
    assert paper(light) != paper(dark)
    light.page.select_option("#theme", "dark")
    assert paper(light) == paper(dark)
    light.page.emulate_media(media="print")
    assert light.page.is_hidden("header")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_anybody(html: Path, look: Look, scheme: str) -> None:
    axe = importlib.import_module("axe_playwright_python.sync_playwright").Axe()
    seen = look(html.as_uri(), color_scheme=scheme, reduced_motion="reduce")
    seen.page.eval_on_selector_all("details", "all => all.forEach(one => (one.open = true))")
    found = axe.run(seen.page).response["violations"]
    seen.page.click("#cards .card button")
    found += axe.run(seen.page, "dialog").response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_ten_thousand_results_are_a_page_at_a_time(look: Look, tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {"id": f"photos/{n}.jpg", "truth": None, "answers": [[f"class {n % 7}", n / 10_000, None, []]]}
        for n in range(10_000)
    ]
    run: dict[str, Any] = {"planned": 10_000, "done": 10_000, "failed": 0, "skipped": 0, "timeline": []}
    found = {"models": [""], "items": items, "total": 123_456}
    data: dict[str, Any] = {"name": "many", "run": run, "failures": [], "evaluation": None, "gallery": found}
    (tmp_path / "many.html").write_text(page(data))
    seen = look((tmp_path / "many.html").as_uri())
    assert seen.page.locator("#cards .card").count() == 36
    assert "10,000 of 123,456 results are on this page" in seen.texts("#gallery .note")[0]
    seen.page.fill("#find-search", "99.jpg")
    assert seen.texts(".count") == ["100 of 10,000 results"]
    seen.page.select_option("#find-sort", "high")
    assert seen.texts("#cards .card .id")[0] == "photos/9999.jpg"
    assert seen.complaints == []
