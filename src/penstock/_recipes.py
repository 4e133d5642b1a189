"""Which recipe a request is for: one model, several, or one on several views."""

from __future__ import annotations

from collections.abc import Mapping

from penstock._adapt import Recipe
from penstock._augmented import Augmented
from penstock._options import Augment, Ensemble
from penstock._request import Request
from penstock._several import Several

AnyRecipe = Recipe | Several | Augmented


def recipe_of(request: Request, *, positional: bool, partial: bool = False) -> AnyRecipe:
    """Return the recipe for a request. `partial`: see `Several`."""
    if isinstance(request.model, Mapping | Ensemble):
        return Several(request, positional=positional, partial=partial)
    if isinstance(request.model, Augment):
        return Augmented(request, request.model, positional=positional)
    return Recipe(request, positional=positional)
