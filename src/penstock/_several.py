"""Several models over the same items: read once, then each model's own steps, then an output by model or one of all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from penstock._adapt import Recipe
from penstock._branches import Earlier, WholeOnly, forked, joined, required, within
from penstock._engine.step import Step
from penstock._ensemble import mean_of, vote_of
from penstock._options import Ensemble
from penstock._own import post_part
from penstock._plan import Part
from penstock._postprocess import activation_of, of_scores
from penstock._ready import Loaded, Ready
from penstock._request import Request
from penstock.errors import UsageError

_TABLES = {"input", "output"}
"""The tables of a spec."""


class Several:
    """A request for several models that was checked: a `Recipe` for each, and what they share.

    `partial`: an item of which some models failed keeps the answers of the others; else it fails as a whole.
    """

    def __init__(self, request: Request, *, positional: bool, partial: bool) -> None:
        """Check the request. Raises UsageError or SpecError where it cannot be carried out."""
        self._ensemble = request.model if isinstance(request.model, Ensemble) else None
        if self._ensemble is not None:
            request, partial = replace(request, model=self._ensemble.named), False
        self.names = _names(request.model)
        self._request = request
        self._partial = partial
        self._recipes = {
            # A mean is one of rows, and padded lines have longer ones.
            name: Recipe(_request_for(request, name), positional=positional, pads=not self._means)
            for name in self.names
        }
        self._first = self._recipes[self.names[0]]
        self._post = [] if request.post is None else [post_part(request.post, self.threads, WholeOnly)]
        colours = {r.spec.input.color for r in self._recipes.values() if r.spec is not None}
        if "rgba" in colours and len(colours) > 1:
            raise UsageError(f"models of colours {sorted(colours)} cannot share one decoded picture. Run rgba alone.")

    def fingerprint(self) -> dict[str, Any]:
        """Return everything of the request that decides about the answers, as JSON values."""
        each = {name: recipe.fingerprint() for name, recipe in self._recipes.items()}
        own = {key: {name: found[key] for name, found in each.items()} for key in ("model", "spec", "decoder")}
        return {**own, **self._request.fingerprint(), **self._combine_fingerprint()}

    def _combine_fingerprint(self) -> dict[str, Any]:
        from penstock._models.source_hash import describe

        if self._ensemble is None:
            return {}
        combine = self._ensemble.combine
        return {"combine": combine if isinstance(combine, str) else describe(combine)}

    def ready(self, entries: Sequence[Any], choices: Mapping[str, Any] | None) -> Ready:
        """Load every model, as `Recipe.load` does; those loaded are closed where one cannot be."""
        members: dict[str, Loaded] = {}
        with ExitStack() as stack:
            for name, recipe in self._recipes.items():
                members[name] = recipe.load(entries, None if choices is None else choices["models"][name])
                stack.callback(members[name].model.close)
            close = stack.pop_all().close
        return Ready(
            parts=functools.partial(self._parts, members),
            choices={"models": {name: dict(loaded.choices) for name, loaded in members.items()}},
            measurements=[{"model": n, **tried} for n, loaded in members.items() for tried in loaded.measurements],
            agreement="; ".join(f"{n}: {m.agreement}" for n, m in members.items() if m.agreement) or None,
            memory=[plan for loaded in members.values() for plan in loaded.memory],
            noted=lambda: {name: noted for name, loaded in members.items() if (noted := loaded.model.noted())},
            close=close,
            kept=all(loaded.keep is not None for loaded in members.values()),
        )

    @property
    def threads(self) -> int:
        """The threads that share the work: as asked, or the CPU budget."""
        return self._first.threads

    def _parts(self, members: Mapping[str, Loaded], earlier: Earlier) -> list[Part]:
        alike = self._prepared_alike(members)
        shared = self._first.preparing(members[self.names[0]].padded) if alike else []
        parts = [*self._first.reading(self._shrink_to()), *shared, Part(forked(self.names, earlier), tryable=True)]
        for name, recipe in self._recipes.items():
            preparing = [] if alike else recipe.preparing(members[name].padded)
            own = [*preparing, recipe.model_part(members[name]), *self._behind(recipe)]
            parts.extend(replace(part, step=within(name, part.step), branch=name) for part in own)
        parts.append(Part(Step.of("join", joined if self._partial else required), tryable=True))
        if self._ensemble is not None:
            theirs = callable(self._ensemble.combine)
            combine = Step.of("combine", _combining(self._ensemble))
            parts.append(Part(combine, own="thread" if theirs else None, tryable=not theirs))
            if self._means:  # of scores already, see `_behind`
                parts.extend(self._first.interpreting(of_scores(self._first.output)))
        return [*parts, *self._post]

    def _prepared_alike(self, members: Mapping[str, Loaded]) -> bool:
        """Tell whether all models take the same input, which is then made once; a callable might write to its own."""
        inputs = {recipe.input_of(members[name].padded) for name, recipe in self._recipes.items()}
        return len(inputs) == 1 and not any(recipe.calls for recipe in self._recipes.values())

    @property
    def _means(self) -> bool:
        return self._ensemble is not None and self._ensemble.combine == "mean"

    def _behind(self, recipe: Recipe) -> list[Part]:
        """Return the steps behind a model: its numbers are interpreted, unless a mean of them comes first."""
        if not self._means:
            return recipe.after()
        activation = activation_of(recipe.output)
        return [] if activation is None else [Part(Step.of("activation", activation))]

    def _shrink_to(self) -> int | None:
        sides = [recipe.shrink_to for recipe in self._recipes.values()]
        return None if None in sides else max(side for side in sides if side is not None)


def _combining(ensemble: Ensemble) -> Callable[[dict[str, Any]], Any]:
    if callable(ensemble.combine):
        chosen = ensemble.combine
    else:
        chosen = mean_of if ensemble.combine == "mean" else vote_of
    return lambda outputs: chosen(list(outputs.values()))


def _names(models: Mapping[str, Any]) -> tuple[str, ...]:
    if not models or not all(isinstance(name, str) and name for name in models):
        raise UsageError(f"model={models!r}: give each model under a name of its own, model={{'a': ..., 'b': ...}}.")
    return tuple(models)


def _request_for(request: Request, name: str) -> Request:
    """Return the request for one of the models. What is given by name is that model's, anything else is for all."""
    own = {key: _own(getattr(request, key), name, request.model) for key in ("spec", "preset", "labels", "top_k")}
    return replace(request, model=request.model[name], post=None, **own)


def _own(value: Any, name: str, models: Mapping[str, Any]) -> Any:
    """Return what `value` says for one model: by name, or, as the tables of a spec are too, for all."""
    if not isinstance(value, Mapping) or value.keys() <= _TABLES - models.keys():
        return value
    if unknown := value.keys() - models.keys():
        raise UsageError(f"there is no model named {', '.join(sorted(unknown))}; the models are {', '.join(models)}.")
    return value.get(name)
