"""Judge outputs by the truth: one look at everything to know what it is, one at each answer; store the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from penstock._evaluation.candidates import NAMED, Candidate, candidates_of
from penstock._evaluation.compare import compared
from penstock._evaluation.outputs import Output, open_output
from penstock._evaluation.result import Comparison, Evaluation, ModelScore
from penstock._evaluation.sheet import Sheet
from penstock._evaluation.store import store
from penstock._evaluation.truth import (
    FOLDER_NAMES,
    TEXT_FILES,
    Finder,
    TextFiles,
    folder_name,
    is_table,
    is_text,
    truths_in,
)
from penstock.errors import UsageError

WORST = 100
"""How many mistakes of a model are kept in the result."""

Candidates = Sequence[Sequence[Candidate]]
"""The models of each output."""


def judge(paths: Sequence[Path], truth: str | Path, *, ignore_spaces: bool) -> Evaluation:
    """Return the evaluation of the outputs at `paths`, stored with each of their jobs; see `penstock.evaluate`."""
    outputs = [open_output(path) for path in _distinct(paths)]
    with Sheet() as sheet:
        candidates = candidates_of(outputs, texts=_take_truth(truth, sheet))
        for output, own in zip(outputs, candidates, strict=True):
            _survey(output, own, truth, sheet)
        every = [candidate for own in candidates for candidate in own]
        for candidate in every:
            candidate.prepare(sheet.truths, ignore_spaces=ignore_spaces)
        for output, own in zip(outputs, candidates, strict=True):
            _judge(output, own, sheet)
        said = f"{truth}, spaces ignored" if ignore_spaces else str(truth)
        evaluation = _evaluation(said, every, sheet)
        for output in outputs:
            store(output.job, evaluation, sheet.lines([c.name for c in every]), sheet.left_out())
    return evaluation


def _distinct(paths: Sequence[Path]) -> Sequence[Path]:
    if not paths:
        raise UsageError("There is nothing to evaluate: no output is given. Give one, or several to compare them.")
    double = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if double:
        raise UsageError(f"The output {double[0]} is given more than once. Give each once.")
    return paths


# ---- the truth


def _take_truth(truth: str | Path, sheet: Sheet) -> bool:
    """Put the rows of a table into the sheet; return whether the truth is texts, where an output leaves that open."""
    if not is_table(truth):
        return str(truth) == TEXT_FILES
    sheet.add_truths(Path(truth), truths_in(Path(truth)))
    return is_text(Path(truth))


def _finder(truth: str | Path, output: Output, number: int, sheet: Sheet) -> Finder:
    if str(truth) == FOLDER_NAMES:
        return folder_name
    if str(truth) == TEXT_FILES:
        return TextFiles(output.working_folder, partial(sheet.claim, number))
    return lambda entry: sheet.truth_of(entry.id)


def _unmatched(truth: str | Path, output: Output, example: int | str | None, sheet: Sheet) -> UsageError:
    """Return the error for an output of which no item has a truth."""
    if example is None:
        return UsageError(f"{output.path} has no items yet. Run it first.")
    if str(truth) == FOLDER_NAMES:
        how = f"the ids of the items have no folder, as {example!r}. Run over the folder above, or give a table"
    elif str(truth) == TEXT_FILES:
        how = f"beside none of the items is a text; for {example!r} it would be a file of its name that ends in .gt.txt"
    else:
        how = (
            f"the items have ids such as {example!r}, the table has such as {sheet.some_truth()!r}. Make them the same"
        )
    return UsageError(f"{truth} says nothing about any item of {output.path}: {how}.")


# ---- two looks at the outputs


def _survey(output: Output, own: Sequence[Candidate], truth: str | Path, sheet: Sheet) -> None:
    """Put the items into the sheet, and let the candidates see their answers. Raises UsageError where no truth fits."""
    by_name = {candidate.own: candidate for candidate in own}
    find = _finder(truth, output, own[0].number, sheet)
    matched, example = False, None
    for entry in output.entries():
        found = find(entry)
        matched, example = matched or found is not None, entry.id
        sheet.add_item(entry.id, found, failed=entry.failed)
        for name, answer in output.answers(entry):
            by_name[name].note(entry.id, answer)
    if not matched:
        raise _unmatched(truth, output, example, sheet)


def _judge(output: Output, own: Sequence[Candidate], sheet: Sheet) -> None:
    by_name = {candidate.own: candidate for candidate in own}
    for entry in output.entries():
        item = sheet.item(entry.id)
        if item is None or item[1] is None:  # it came while we looked, or has no truth
            continue
        for name, found in output.answers(entry):
            candidate = by_name[name]
            sheet.add_answer(candidate.number, item[0], candidate.judge(item[1], found))


# ---- the result


def _evaluation(truth: str, every: Sequence[Candidate], sheet: Sheet) -> Evaluation:
    judged = sheet.judged()
    left_out = Counter(why for _, why in sheet.left_out())
    if not judged:
        counts = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in sorted(left_out.items()))
        raise UsageError(f"There is nothing to judge: no item has both a truth and a result ({counts}). Run it first.")
    scored = [candidate for candidate in every if candidate.answered]
    return Evaluation(
        truth=truth,
        items=judged,
        without_truth=left_out["without_truth"],
        without_result=left_out["without_result"],
        failed=left_out["failed"],
        models={candidate.name: _score(candidate, sheet) for candidate in scored},
        comparisons=tuple(_comparisons(scored, sheet)),
        notes=(*_named(sheet), *(note for candidate in every for note in candidate.notes(judged))),
    )


def _score(candidate: Candidate, sheet: Sheet) -> ModelScore:
    return candidate.score(sheet.worst(candidate.number, WORST))


def _comparisons(scored: Sequence[Candidate], sheet: Sheet) -> Iterator[Comparison]:
    for a, b in combinations(scored, 2):
        yield compared(a.name, b.name, sheet.paired(a.number, b.number))


def _named(sheet: Sheet) -> Iterator[str]:
    """Yield a note for each reason that items were left out for, naming the first of them."""
    found: dict[str, list[int | str]] = {}
    counts: Counter[str] = Counter()
    for id_, why in sheet.left_out():
        counts[why] += 1
        if counts[why] <= NAMED:
            found.setdefault(why, []).append(id_)
    for why, ids in sorted(found.items()):
        more = ", ..." if counts[why] > NAMED else ""
        items = "item" if counts[why] == 1 else "items"
        yield f"{counts[why]:,} {items} {why.replace('_', ' ')}: {', '.join(map(repr, ids))}{more}"
