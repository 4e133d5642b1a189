"""numpy values -> the plain values of Python that JSON has; short floats stay short."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_DIGITS = {2: range(3, 6), 4: range(6, 10)}
"""Item size -> numbers of digits to try: the first are always kept by the type, the last always suffice."""

_SAFE = (1e-13, 1e15)
"""Between these every power of ten below is exact in float64."""

_TEN_TO = np.array([float(f"1e{n}") for n in range(23)])


def plain(value: npt.NDArray[Any] | np.generic) -> Any:
    """Return a numpy array or scalar as (nested lists of) bool, int, float or str.

    A float16 or float32 becomes the shortest decimal that reads back as the same value: 0.93, not 0.9300000071525574.

    Raises:
        TypeError: the dtype has no plain values (complex, bytes, dates, records).
    """
    kind = value.dtype.kind
    if kind == "f":
        return _floats(value)
    if kind in "biuUO":
        return value.tolist()
    raise TypeError(f"numpy {value.dtype.name}")


def _floats(value: npt.NDArray[Any] | np.generic) -> Any:
    if value.dtype.itemsize not in _DIGITS:
        return np.asarray(value, np.float64).tolist()
    if value.ndim == 0:
        return float(str(value))
    return shortest(np.asarray(value)).tolist()


def shortest(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return float16 or float32 `values` as the float64 numbers whose shortest decimals read back as them.

    A decimal of d digits is x * 10^k rounded to an integer, over 10^k; for both factors below 2^53 and 10^22 the
    quotient is the float64 nearest to the decimal, whose own shortest form is that decimal.
    """
    exact = values.astype(np.float64).ravel()
    size = np.abs(exact)
    # Below the smallest normal number fewer digits are kept.
    safe = (size >= max(_SAFE[0], np.finfo(values.dtype).smallest_normal)) & (size < _SAFE[1])
    places = np.flatnonzero(safe)
    exponents = np.floor(np.log10(size[places])).astype(np.int64)
    for digits in _DIGITS[values.dtype.itemsize]:
        found = _round(exact, places, digits - 1 - exponents, values.dtype)
        places, exponents = places[~found], exponents[~found]
    for place in np.flatnonzero(~safe & np.isfinite(exact)).tolist():
        exact[place] = float(str(values.flat[place]))
    return exact.reshape(values.shape)


def _round(
    exact: npt.NDArray[np.float64], places: npt.NDArray[np.int64], decimals: npt.NDArray[np.int64], dtype: np.dtype[Any]
) -> npt.NDArray[np.bool_]:
    """Round `exact` at `places` to so many decimals where `dtype` cannot tell the difference; return where that was."""
    up, down = _TEN_TO[np.maximum(decimals, 0)], _TEN_TO[np.maximum(-decimals, 0)]
    x = exact[places]
    scaled = x * up / down
    near = np.rint(scaled) * down / up
    found: npt.NDArray[np.bool_] = near.astype(dtype) == x
    # Half way between two decimals, the even one may be nearer to a neighbour of the value, and the other one not.
    half = np.flatnonzero(~found & (np.abs(scaled - np.trunc(scaled)) == 0.5))
    near[half] = (np.trunc(scaled[half]) + np.copysign(1.0, x[half])) * down[half] / up[half]
    found[half] = near[half].astype(dtype) == x[half]
    exact[places[found]] = near[found]
    return found
