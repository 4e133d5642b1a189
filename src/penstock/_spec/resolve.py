"""A spec meets the shape that a model takes: what the spec leaves open is filled in, what disagrees is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from penstock._spec.fields import CHANNELS, SHARE_OF_SIZE, InputSpec, Spec
from penstock.errors import SpecError

Dim = int | str | None


def resolve(spec: Spec, input_shape: Sequence[Dim] | None = None) -> Spec:
    """Return `spec` with its size and short side in pixels.

    Args:
        spec: what was said.
        input_shape: the shape that the model takes, batch first; a free side is None or a name. None for a callable.

    Raises:
        SpecError: the model takes another shape than the spec gives, or neither says the size.
    """
    given = spec.input
    if input_shape is not None:
        height, width = _picture_sides(given, input_shape)
        _check_free_width(given, height, width, input_shape)
        given = _with_size(given, height, width, input_shape)
    if given.size is None and (given.resize in ("stretch", "pad") or given.crop is not None):
        raise SpecError(f'resize="{given.resize}" needs a size, and the model leaves it free. Write: size = [224, 224]')
    short_side = short_side_of(given)
    if short_side != given.short_side:
        given = dataclasses.replace(given, short_side=short_side)
    return dataclasses.replace(spec, input=given)


def short_side_of(spec: InputSpec) -> int | None:
    """Return the short side in pixels; a share of the size ("size/0.875") is rounded to the nearest."""
    if not isinstance(spec.short_side, str):
        return spec.short_side
    share = SHARE_OF_SIZE.fullmatch(spec.short_side)
    if share is None or spec.size is None:
        raise SpecError(f"short_side={spec.short_side!r} needs a size. Write: size = [224, 224]")
    return round(max(spec.size) / float(share[1]))


def _picture_sides(spec: InputSpec, shape: Sequence[Dim]) -> tuple[Dim, Dim]:
    if len(shape) != 4:
        raise SpecError(
            f"the model takes {_text(shape)}, of {len(shape)} axes; a spec describes pictures: 4 axes, {spec.layout}."
        )
    _, a, b, c = shape
    channels, height, width = (a, b, c) if spec.layout == "NCHW" else (c, a, b)
    wanted = CHANNELS[spec.color]
    if isinstance(channels, int) and channels != wanted:
        raise SpecError(
            f"the spec says {wanted} channels (color={spec.color!r}) and layout={spec.layout!r}; the model takes "
            f"{_text(shape)}. Correct color or layout."
        )
    return height, width


def _check_free_width(spec: InputSpec, height: Dim, width: Dim, shape: Sequence[Dim]) -> None:
    fixed = spec.keep_aspect_height
    if fixed is None:
        return
    if isinstance(height, int) and height != fixed:
        raise SpecError(f"the spec says keep_aspect_height={fixed}; the model takes {_text(shape)}, height {height}.")
    if isinstance(width, int):
        raise SpecError(
            f"keep_aspect_height={fixed} leaves the width free; the model takes {_text(shape)}, width {width}. "
            f'Write: size = [{fixed}, {width}], and resize = "pad" or "stretch".'
        )


def _with_size(spec: InputSpec, height: Dim, width: Dim, shape: Sequence[Dim]) -> InputSpec:
    """Return `spec` with the size that the model fixes. Raises SpecError where they disagree."""
    fixed = isinstance(height, int) or isinstance(width, int)
    if spec.keep_aspect_height is not None or not fixed:
        return spec
    if spec.resize is None:
        raise SpecError(
            f"the model takes {_text(shape)} and the spec resizes nothing. "
            'Write: resize = "short_side", "stretch" or "pad".'
        )
    if spec.resize == "short_side" and spec.crop is None:
        raise SpecError(
            f'the model takes {_text(shape)}: resize="short_side" leaves a side free. Write: crop = "center"'
        )
    if spec.size is None and isinstance(height, int) and isinstance(width, int):
        return dataclasses.replace(spec, size=(height, width))
    for said, wanted in zip(spec.size or (), (height, width), strict=False):
        if isinstance(wanted, int) and wanted != said:
            raise SpecError(
                f"the spec gives size={list(spec.size or ())} (height, width); the model takes {_text(shape)}. "
                f"Correct size{' and short_side' if spec.short_side is not None else ''}, or take another model."
            )
    return spec


def _text(shape: Sequence[Dim]) -> str:
    return "(" + ", ".join(str(dim) if dim is not None else "free" for dim in shape) + ")"
