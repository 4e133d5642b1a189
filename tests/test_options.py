"""The options check themselves."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Torch, errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "gpu"}, 'give "auto", "cpu", "cuda" or "cuda:N"'),
        ({"device": "cuda:x"}, "cuda:x"),
        ({"dtype": "float64"}, "give one of float32, bfloat16, float16"),
        ({"autocast": "float32"}, "give one of bfloat16, float16, or None"),
        ({"factory": "nets"}, '"pkg.module:make"'),
        ({"factory": ":make"}, '"pkg.module:make"'),
        ({"factory": 3}, '"pkg.module:make"'),
    ],
)
def test_torch_refuses_what_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        Torch("a.pt", **options)
    assert said in str(caught.value)


def test_torch_takes_what_can_be() -> None:
    options = Torch("a.pt", factory=list, device="cuda:3", dtype="float16", autocast="bfloat16")
    assert options.factory is not None
