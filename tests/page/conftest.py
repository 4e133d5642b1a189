"""Jobs whose pages are looked at, and the browser that looks at them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._job import job_folder

NASTY = "<img src=x onerror=alert(1)>.jpg"
CLASSES = ("daisy", "roses", "tulips")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a headless Chromium, of this machine; a machine that has none fails, and says what to install."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name)) is not None), None)
    if found is None:
        pytest.fail(
            f"no browser: none of {', '.join(BROWSERS)} is on the PATH. Debian and Ubuntu: apt install chromium"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found)
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """A page that is open, with all that it asked of others and all that went wrong on it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def refuse(self, dialog: Any) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Seen]]:
    """Return a function that opens an address in a window of its own."""
    contexts = []

    def opened(address: str, **options: Any) -> Seen:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("dialog", seen.refuse)
        seen.page.goto(address)
        return seen

    yield opened
    for context in contexts:
        context.close()


def classify(batch: Sequence[np.ndarray[Any, Any]]) -> list[dict[str, Any]]:
    """Tell a picture's class by its brightest channel; a black one is no picture for it."""
    return [_classified(image) for image in batch]


def _classified(image: np.ndarray[Any, Any]) -> dict[str, Any]:
    means = image.reshape(-1, 3).mean(axis=0)
    if means.max() < 1:
        raise ValueError(f"all of its {image.size // 3} pixels are black")
    scores = means / means.sum()
    order = np.argsort(-scores)
    return {"top": [{"index": int(i), "label": CLASSES[i], "score": round(float(scores[i]), 4)} for i in order]}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 90 pictures in three classes, every seventh in a wrong one, and some that fail."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for n in range(90):
        name = NASTY if n == 4 else f"{n:02}.jpg"
        pixels = random.integers(20, 90, (60, 80, 3), dtype=np.uint8)
        pixels[..., n % 3 if n % 7 else (n + 1) % 3] += np.uint8(100)
        path = folder / CLASSES[n % 3] / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    for n in range(3):
        Image.new("RGB", (80 + n, 60)).save(folder / "roses" / f"black{n}.png")
    (folder / "tulips" / "empty.jpg").touch()
    return folder


def evaluate(out: Path, *, model: str = "classify") -> None:
    """Write what `--truth folder-names` would, as the page takes it."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    confusion = [[0] * len(CLASSES) for _ in CLASSES]
    lines, worst = [], []
    for row in rows:
        truth, best = row["id"].split("/")[0], row["output"]["top"][0]
        confusion[CLASSES.index(truth)][CLASSES.index(best["label"])] += 1
        answer = {"prediction": best["label"], "score": best["score"], "right": truth == best["label"]}
        lines.append({"id": row["id"], "truth": truth, "answers": {model: answer}})
        if not answer["right"]:
            worst.append({"id": row["id"], "truth": truth, "prediction": best["label"], "score": best["score"]})
    right = sum(confusion[i][i] for i in range(len(CLASSES)))
    per_class = [{"label": c, "precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 30} for c in CLASSES]
    found = {"kind": "classes", "items": len(rows), "top1": right / len(rows), "top5": None, "labels": list(CLASSES)}
    found |= {"confusion": confusion, "per_class": per_class, "cer": None, "wer": None, "exact": None, "worst": worst}
    summary = {"truth": "folder names", "items": len(rows), "without_truth": 0, "without_result": 0, "failed": 4}
    folder = job_folder(out)
    (folder / "evaluation.json").write_text(json.dumps({**summary, "models": {model: found}, "comparisons": []}))
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="session")
def job(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run over the photos, with an evaluation."""
    out = tmp_path_factory.mktemp("job") / "flowers.jsonl"
    report = penstock.run(photos, classify, out=out, batch=2, threads=2)
    assert (report.done, report.failed) == (90, 4)
    evaluate(out)
    return out
