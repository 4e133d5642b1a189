"""Test-time augmentation: every item as several views, rows of the model's batches, one answer of what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from penstock._adapt import Recipe
from penstock._engine.step import Step
from penstock._options import Augment, View
from penstock._plan import Part
from penstock._postprocess import activation_of, of_scores
from penstock._ready import Loaded, Ready, ready
from penstock._request import Request
from penstock._spec import Spec
from penstock._views import merged, scaled, turned
from penstock.errors import UsageError


class Augmented:
    """A request for a model on several views that was checked: its `Recipe`, and the views."""

    def __init__(self, request: Request, augment: Augment, *, positional: bool) -> None:
        """Check the request. Raises UsageError or SpecError where it cannot be carried out."""
        self._augment = augment
        # Turned back, a padded view would lie beside the others.
        self._recipe = Recipe(replace(request, model=augment.model), positional=positional, pads=False)
        if self._recipe.spec is None:
            raise UsageError("Augment makes views of pictures: say with spec= or preset= how the model wants them.")
        self._spec: Spec = self._recipe.spec
        self._inputs = [scaled(self._spec.input, view.scale) for view in augment.views]

    def fingerprint(self) -> dict[str, Any]:
        """Return everything of the request that decides about the answers, as JSON values."""
        from penstock._models.source_hash import describe

        merge = self._augment.merge
        said = merge if isinstance(merge, str) else describe(merge)
        return {**self._recipe.fingerprint(), "views": [asdict(view) for view in self._augment.views], "merge": said}

    @property
    def threads(self) -> int:
        """The threads that share the work: as asked, or the CPU budget."""
        return self._recipe.threads

    def ready(self, entries: Sequence[Any], choices: Mapping[str, Any] | None) -> Ready:
        """Load the model, see `Recipe.load`, and return all steps from an item to its output."""
        loaded = self._recipe.load(entries, choices)
        return ready(loaded, self._parts(loaded))

    def _parts(self, loaded: Loaded) -> list[Part]:
        model, theirs = self._recipe.model_part(loaded), callable(self._augment.merge)
        return [
            *self._recipe.reading(self._shrink_to()),
            Part(Step.of("views", self._views()), tryable=True),
            replace(model, step=_by_views(model.step, len(self._inputs))),
            Part(Step.of("merge", self._merge()), own="thread" if theirs else None, tryable=not theirs),
            *self._recipe.interpreting(of_scores(self._spec.output)),
            *self._recipe.post,
        ]

    def _views(self) -> Callable[[Any], tuple[Any, ...]]:
        from penstock._preprocess import make, turns_with

        views = list(self._augment.views)
        inputs = {view.scale: (spec, make(spec)) for view, spec in zip(views, self._inputs, strict=True)}

        def seen(picture: Any) -> tuple[Any, ...]:
            upright: dict[float, Any] = {}  # scaled once for all views of a scale, for that is most of the work

            def one(view: View) -> Any:
                spec, prepare = inputs[view.scale]
                if not turns_with(spec, picture.shape, quarter=view.rotate in (90, 270)):
                    return prepare(turned(picture, view))
                if view.scale not in upright:
                    upright[view.scale] = prepare(picture)
                return turned(upright[view.scale], view)

            return tuple(one(view) for view in views)

        return seen

    def _shrink_to(self) -> int | None:
        from penstock._preprocess import shrink_to

        sides = [shrink_to(spec) for spec in self._inputs]
        return None if None in sides else max(side for side in sides if side is not None)

    def _merge(self) -> Callable[[Sequence[Any]], Any]:
        views: Sequence[View] = self._augment.views
        activation = activation_of(self._spec.output)
        if activation is None:
            return lambda rows: merged(rows, views, self._augment.merge)
        return lambda rows: merged([activation(row) for row in rows], views, self._augment.merge)


def _by_views(step: Step, k: int) -> Step:
    """Return the model's step for items of `k` views each: they are rows beside those of the other items.

    A call has as many rows as the model's batch: that is what was measured, for its speed and for its memory.
    """
    size = step.block or 1

    @contextmanager
    def bind() -> Iterator[Callable[..., Any]]:
        with step.bind() as predict:

            def by_views(items: list[tuple[Any, ...]]) -> list[list[Any]]:
                views = [view for item in items for view in item]
                rows: list[Any] = []
                for begin in range(0, len(views), size):
                    rows.extend(predict(views[begin : begin + size]))
                return [rows[i : i + k] for i in range(0, len(rows), k)]

            yield by_views

    return replace(step, bind=bind, block=max(1, size // k))
