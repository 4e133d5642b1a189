"""numpy values -> the plain values of Python that JSON has; short floats stay short."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_DIGITS = {2: range(3, 6), 4: range(6, 10)}
"""Item size -> numbers of digits to try: the first are always kept by the type, the last always suffice."""

_SAFE_EXPONENTS = (-13, 14)
"""Decimal exponents for which every power of ten below is exact in float64, and which are far from the subnormals."""


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
    exact = values.astype(np.float64)
    out = exact.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log10(np.abs(exact)))
    safe = (exponent >= _SAFE_EXPONENTS[0]) & (exponent <= _SAFE_EXPONENTS[1])
    out[safe] = _rounded(values[safe], exact[safe], exponent[safe])
    far = ~safe & np.isfinite(exact) & (exact != 0)
    if far.any():
        out[far] = [float(str(x)) for x in values[far]]
    return out


def _rounded(
    values: npt.NDArray[Any], exact: npt.NDArray[np.float64], exponent: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    out = exact.copy()
    todo = np.ones(exact.shape, np.bool_)
    for digits in _DIGITS[values.dtype.itemsize]:
        up, down = 10.0 ** np.maximum(digits - 1 - exponent, 0), 10.0 ** np.maximum(exponent + 1 - digits, 0)
        decimal = np.rint(exact * up / down) * down / up
        found = todo & (decimal.astype(values.dtype) == values)
        out[found] = decimal[found]
        todo &= ~found
    return out
