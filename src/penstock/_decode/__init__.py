"""Files of pictures -> RGB uint8 arrays, by the fastest decoder installed, with a tolerant one behind it."""

from __future__ import annotations

from penstock._decode.reading import IMAGE_SUFFIXES, decode, load
from penstock._decode.tools import choose_decoder

__all__ = ["IMAGE_SUFFIXES", "choose_decoder", "decode", "load"]
