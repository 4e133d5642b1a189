"""The results that a page shows: for each its answers, what would have been right, and a small picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock._job import job_folder
from penstock._page.answers import Answer, answers_of
from penstock._page.choice import MOST_SHOWN, TELLING, every_nth, lowest, merged
from penstock._page.evaluation import items_in
from penstock._page.results import Id, listed, results

Truth = Mapping[str, Any]
"""A line of evaluation.jsonl: id, truth, answers."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """`models`: their names ("" where there is one alone). `items`: rows for the page, see `_row`. `paths`: of those.

    `total`: how many results there are. `order`: numbers of the rows, those that most deserve a picture first.
    """

    models: list[str]
    items: list[dict[str, Any]]
    paths: list[str | None]
    total: int
    order: list[int]


def gallery(out: Path, worst: Sequence[Id] = ()) -> Gallery:
    """Return the results of the job at `out`: all of them, or MOST_SHOWN of many, those of `worst` among them."""
    total, ids = _chosen(out, worst)
    truths = {line["id"]: line for line in items_in(job_folder(out)) if line["id"] in ids}
    answers = {id_: answers_of(output) for id_, output in results(out) if id_ in ids}
    models = sorted({name for of_item in answers.values() for name in of_item}) or [""]
    there = [item for item in listed(out) if item.id in answers]
    items = [_row(item.id, answers[item.id], truths.get(item.id), models) for item in there]
    return Gallery(models, items, [item.path for item in there], total, _order(items))


def _chosen(out: Path, worst: Sequence[Id]) -> tuple[int, set[Id]]:
    """Return how many results there are, and the ids of those to show."""
    total = sum(item.state == 1 for item in listed(out))
    if total <= MOST_SHOWN:
        return total, {id_ for id_, _ in results(out)}
    most = int(MOST_SHOWN * TELLING)
    wrong = lowest(_wrong(out), most)
    uncertain = lowest(_scored(out), most)
    places = set(every_nth(total, MOST_SHOWN))
    some = (id_ for place, (id_, _) in enumerate(results(out)) if place in places)
    return total, set(merged([worst, wrong, uncertain, some], MOST_SHOWN))


def _wrong(out: Path) -> Iterator[tuple[float, Id]]:
    """Yield the items with a wrong answer: the surer a model was, the lower the number beside it."""
    for line in items_in(job_folder(out)):
        scores = [answer.get("score") or 0.0 for answer in line["answers"].values() if answer.get("right") is False]
        if scores:
            yield -max(scores), line["id"]


def _scored(out: Path) -> Iterator[tuple[float, Id]]:
    for id_, output in results(out):
        scores = [answer.score for answer in answers_of(output).values() if answer.score is not None]
        if scores:
            yield min(scores), id_


def _row(id_: Id, answers: Mapping[str, Answer], truth: Truth | None, models: list[str]) -> dict[str, Any]:
    """Return {"id", "truth", "answers": one a model, [prediction, score, right, [[label, score], ...]] or null}."""
    judged = {} if truth is None else truth["answers"]
    alone = len(models) == 1 and len(judged) == 1  # then both mean the same model, whatever its name is
    shown: list[Any] = []
    for name in models:
        answer, said = answers.get(name), next(iter(judged.values())) if alone else judged.get(name, {})
        if answer is not None:
            right = said.get("right")
            prediction = said.get("prediction", answer.prediction)  # by the name that the truth has for it
            shown.append([prediction, answer.score, right, [list(entry) for entry in answer.top]])
        else:
            shown.append(None)
    return {"id": str(id_), "truth": None if truth is None else truth["truth"], "answers": shown}


def _order(items: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of `items`: a mistake first, then every nth, so that many have pictures wherever one looks."""
    wrong = [n for n, item in enumerate(items) if any(a is not None and a[2] is False for a in item["answers"])]
    spread = [n for step in (16, 8, 4, 2, 1) for n in range(0, len(items), step)]
    return merged([wrong, spread], len(items))
