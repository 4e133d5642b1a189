"""Results against the truth: accuracy of classes, error rates of texts, models compared item by item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penstock._evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate", "refuse_truth"]


def evaluate(out: str | Path | Sequence[str | Path], truth: str | Path, *, ignore_spaces: bool = False) -> Evaluation:
    """Return how good the results in `out` are, and store that in the job's own folder, for `penstock report`.

    Args:
        out: an output of `run`, of one model or several; or a list of outputs, which are compared item by item.
        truth: a table (.csv, .jsonl, .parquet) with a column `path` (or `file`, `filename`, `image`, `id`) that has the
            ids of the items, and a column `label` or `text`; "folder-names", where the label of an item is the name of
            the folder it lies in; "*.gt.txt", where the text of `line.png` is in `line.gt.txt` beside it.
        ignore_spaces: compare texts without their white space. There is no word error rate then.

    Raises:
        UsageError: the truth cannot be read, or matches nothing; the outputs are neither classes nor texts.
        LedgerError: `out` is no output of penstock, or was changed by somebody else.
        MissingDependency: scikit-learn (classes) or jiwer (texts) is not installed.
    """
    # The database is a tenth of all that `import penstock` loads, and a run without a truth needs none of this.
    from penstock._evaluation.judging import judge

    outs = [out] if isinstance(out, (str, Path)) else out
    return judge([Path(path) for path in outs], truth, ignore_spaces=ignore_spaces)


def refuse_truth(truth: str | Path) -> None:
    """Refuse, before a run, a truth that could not be used behind it. Raises as `evaluate`."""
    from penstock._evaluation.libraries import refuse_missing
    from penstock._evaluation.truth import check_truth

    check_truth(truth)
    refuse_missing()
