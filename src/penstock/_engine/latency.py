"""How long the calls of each step took: what the pipeline has counted anyway, as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock._engine.pipeline import Pipeline

QUANTILES = (0.5, 0.9, 0.99, 1.0)


def latencies(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return for each step: name, `items_a_call` (1, or the batch), calls' p50_s, p90_s, p99_s, p100_s and a histogram.

    A number is the mean of the calls that a worker made in a row, for one parcel: of cheap steps many, of a model one
    or a few. `histogram`: [from_s, to_s, count] of each bucket that has any. Steps that never ran are left out.
    """
    with pipeline.lock:
        pairs = [
            (step, calls) for post in pipeline.posts for step, calls in zip(post.stage.steps, post.calls, strict=True)
        ]
        return [
            {
                "name": step.name,
                "items_a_call": step.block or 1,
                **{f"p{share * 100:.0f}_s": calls.quantile(share) for share in QUANTILES},
                "histogram": calls.coarse(),
            }
            for step, calls in pairs
            if len(calls)
        ]
