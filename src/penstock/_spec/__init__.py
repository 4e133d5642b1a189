"""How a model wants its input and what its output means, and where that is said."""

from __future__ import annotations

from penstock._spec.fields import InputSpec, OutputSpec, Spec
from penstock._spec.find import find_spec, spec_beside
from penstock._spec.resolve import resolve, short_side_of

__all__ = ["InputSpec", "OutputSpec", "Spec", "find_spec", "resolve", "short_side_of", "spec_beside"]
