"""The libraries that compute what an evaluation says, imported when used."""

from __future__ import annotations

import importlib.util
from typing import Any

from penstock.errors import MissingDependency

EXTRA = "evaluate"


def metrics_of_classes() -> Any:
    """Return `sklearn.metrics`. Raises MissingDependency."""
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependency.of("scikit-learn", EXTRA, "Evaluating classes") from error
    return metrics


def metrics_of_texts() -> Any:
    """Return `jiwer`. Raises MissingDependency."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingDependency.of("jiwer", EXTRA, "Evaluating texts") from error
    return jiwer


def statistics() -> Any:
    """Return `scipy.stats`. Raises MissingDependency."""
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingDependency.of("scipy", EXTRA, "Comparing models") from error
    return stats


def refuse_missing() -> None:
    """Raise MissingDependency where one of them is not there, without the second it takes to import them."""
    for package, name in (("sklearn", "scikit-learn"), ("jiwer", "jiwer"), ("scipy", "scipy")):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency.of(name, EXTRA, "An evaluation")
