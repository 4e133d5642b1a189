"""Views: turned before the model and turned back behind it, so that a dense answer lies where the picture does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import InputSpec, OutputSpec, Spec, View, _preprocess
from penstock._views import merged, scaled, turned, undone
from penstock.errors import ItemError, SpecError, UsageError

views = st.builds(View, st.just(1.0), st.booleans(), st.sampled_from([0, 90, 180, 270]))
AS_IS = Spec(InputSpec(size=(8, 8), resize="stretch", mean=(0.0,)), OutputSpec(task="raw"))


@given(views, st.integers(1, 5), st.integers(1, 5))
def test_what_is_turned_is_undone(view: View, height: int, width: int) -> None:
    picture = np.arange(height * width * 3).reshape(height, width, 3)
    shown = turned(picture, view)
    np.testing.assert_array_equal(undone(shown.transpose(2, 0, 1), view), picture.transpose(2, 0, 1))


def test_a_turn_is_counterclockwise_after_the_mirror() -> None:
    picture = np.array([[1, 2], [3, 4]])[..., None]
    assert turned(picture, View(rotate=90))[..., 0].tolist() == [[2, 4], [1, 3]]
    assert turned(picture, View(flip=True, rotate=90))[..., 0].tolist() == [[1, 3], [2, 4]]


def test_scores_have_no_direction() -> None:
    assert undone(np.array([1.0, 2.0]), View(flip=True)).tolist() == [1.0, 2.0]


def test_a_larger_view_wants_a_larger_input() -> None:
    spec = InputSpec(size=(224, 224), resize="short_side", short_side=256, crop="center", mean=(0.0,))
    assert (scaled(spec, 1.5).size, scaled(spec, 1.5).short_side) == ((336, 336), 384)
    assert scaled(InputSpec(keep_aspect_height=32, mean=(0.0,)), 0.5).keep_aspect_height == 16
    assert scaled(spec, 1) is spec
    with pytest.raises(SpecError, match="wants a size to scale"):
        scaled(InputSpec(resize="stretch", mean=(0.0,)), 2.0)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=4))
def test_scores_are_merged_as_numpy_does(scores: list[float]) -> None:
    rows = [np.array([score, 1.0], np.float32) for score in scores]
    plain = [View()] * len(rows)
    np.testing.assert_array_equal(merged(rows, plain, "max"), np.max(rows, axis=0))
    np.testing.assert_allclose(merged(rows, plain, "mean"), np.mean(rows, axis=0), rtol=1e-6)
    assert merged(rows, plain, len) == len(rows)


def test_dense_outputs_of_several_sizes_are_brought_to_the_largest() -> None:
    """A plane stays a plane: linear interpolation between the centres of pixels."""
    fine = np.tile((np.arange(8, dtype=np.float32) + 0.5) / 8, (1, 8, 1))
    coarse = np.tile((np.arange(4, dtype=np.float32) + 0.5) / 4, (1, 4, 1))
    found = merged([fine, coarse], [View(2.0), View()], "mean")
    assert found.shape == (1, 8, 8)
    np.testing.assert_allclose(found[0, :, 1:-1], fine[0, :, 1:-1], atol=1e-6)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ItemError, match="cannot be merged"):
        merged([np.zeros(2), np.zeros(3)], [View(), View()], "mean")


def where_it_is_bright(batch: Any) -> list[Any]:
    """Return the first channel of (N, 3, H, W) as a dense output (1, H, W): it turns with the picture."""
    return [{"map": values[:1].copy(), "mean": values.mean(keepdims=True).reshape(1)} for values in batch]


def test_a_dense_answer_lies_where_the_picture_does(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :4] = 200  # top left
    all_views = [View(1.0, flip, rotate) for flip in (False, True) for rotate in (0, 90, 180, 270)] + [View(2.0)]
    batches: list[int] = []

    def model(batch: Any) -> list[Any]:
        batches.append(len(batch))
        return where_it_is_bright(batch)

    with penstock.Session(penstock.Augment(model, all_views), spec=AS_IS, batch=18) as session:
        (found, _) = session.map([picture, picture])
    assert found["map"].shape == (1, 16, 16)
    np.testing.assert_allclose(found["map"][0, :7, :7], 200, atol=1e-3)
    np.testing.assert_allclose(found["map"][0, 9:, 9:], 0, atol=1e-3)
    assert found["mean"] == pytest.approx([50.0], rel=1e-3)
    assert max(batches) == 16  # the views of both items in one batch of 18 rows: sixteen are of one size
    assert sum(batches) == 18


def test_a_picture_is_scaled_once_for_all_views_of_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaling is most of the work of a view."""
    scalings: list[int] = []

    def counted(spec: InputSpec) -> Any:
        prepare = _preprocess.prepare.make(spec)

        def one(picture: Any) -> Any:
            scalings.append(len(picture))
            return prepare(picture)

        return one

    monkeypatch.setattr(_preprocess, "make", counted)
    all_views = [View(scale, flip, rotate) for scale in (1.0, 2.0) for flip in (False, True) for rotate in (0, 90)]
    with penstock.Session(penstock.Augment(where_it_is_bright, all_views), spec=AS_IS, batch=8) as session:
        list(session.map([np.zeros((16, 16, 3), np.uint8)]))
    assert scalings == [16, 16]


def test_results_belong_to_items_whatever_the_batch(tmp_path: Path) -> None:
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in range(10)]
    augment = penstock.Augment(where_it_is_bright, [View(), View(flip=True), View(rotate=90)], merge="max")
    for batch in (1, 2, 3, 8):  # rows: parts of an item's views, all of them, those of two items and more
        out = tmp_path / f"{batch}.jsonl"
        penstock.run(pictures, augment, spec=AS_IS, out=out, batch=batch)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["output"]["mean"] for row in rows] == [[float(value)] for value in range(10)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: View(rotate=45), "0, 90, 180 or 270"),
        (lambda: View(scale=0), "factor > 0"),
        (lambda: penstock.Augment(len, []), "a list of View"),
        (lambda: penstock.Augment(len, [View()], merge="median"), '"mean", "max" or a function'),  # type: ignore[arg-type]
        (lambda: penstock.Session(penstock.Augment(where_it_is_bright, [View()])), "say with spec= or preset="),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
