"""Where each pixel of a model's input comes from; pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock._spec import InputSpec, short_side_of
from penstock.errors import ItemError, SpecError

MAX_PIXELS = 178_956_970
"""A picture of extreme shape (1 x 60,000) that would become larger is refused, as a large one is on reading."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a picture: scaled from `source` to `scaled` pixels, of which `length` from `first` on are kept."""

    source: int
    scaled: int
    first: int
    length: int

    @property
    def ratio(self) -> float:
        """Pixels of the picture for each scaled one."""
        return self.source / self.scaled

    @property
    def unchanged(self) -> bool:
        """Whether every pixel stays what and where it is."""
        return self.source == self.scaled == self.length

    @property
    def span(self) -> tuple[float, float]:
        """Where the kept pixels begin and end in the picture."""
        return self.first * self.ratio, (self.first + self.length) * self.ratio


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture is scaled and cropped, and where it then lies in the field (its height, width, top, left)."""

    rows: Axis
    columns: Axis
    field: tuple[int, int]
    top: int = 0
    left: int = 0


def check_geometry(spec: InputSpec) -> None:
    """Raise SpecError where `spec` leaves a size open that only the model could have filled in."""
    if spec.size is None and (spec.resize in ("stretch", "pad") or spec.crop is not None):
        raise SpecError(f'resize="{spec.resize}" needs a size. Write: size = [224, 224]')


def geometry_of(spec: InputSpec, height: int, width: int) -> Geometry:
    """Return what becomes of a picture of `height` x `width`. Raises ItemError where it would become too large.

    Rounding is that of torchvision's Resize and CenterCrop: the long side down, half a pixel of a crop to even.
    """
    scaled = _scaled(spec, height, width)
    kept = spec.size if spec.crop is not None and spec.size is not None else scaled
    if kept[0] * kept[1] > MAX_PIXELS:
        raise ItemError(
            f"a picture of {width:,} x {height:,} pixels would become {kept[1]:,} x {kept[0]:,}, more than the "
            f"{MAX_PIXELS:,} pixels allowed."
        )
    rows, columns = (
        Axis(source, side, round((side - keep) / 2), keep)
        for source, side, keep in zip((height, width), scaled, kept, strict=True)
    )
    if spec.resize != "pad" or spec.size is None:
        return Geometry(rows, columns, kept)
    return Geometry(rows, columns, spec.size, (spec.size[0] - kept[0]) // 2, (spec.size[1] - kept[1]) // 2)


def _scaled(spec: InputSpec, height: int, width: int) -> tuple[int, int]:
    """Return the height and width that the whole picture is scaled to."""
    if spec.keep_aspect_height is not None:
        return spec.keep_aspect_height, max(1, width * spec.keep_aspect_height // height)
    if spec.resize == "short_side":
        side = short_side_of(spec) or 1
        return (side, side * width // height) if height <= width else (side * height // width, side)
    if spec.size is None:
        return height, width
    if spec.resize == "stretch":
        return spec.size
    scale = min(spec.size[0] / height, spec.size[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))
