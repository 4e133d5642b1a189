from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penstock._decode import decode, tools
from penstock._decode.tools import MAX_PIXELS, check_size, choose_decoder, factor_for, find_tools, from_16_bits
from penstock.errors import ItemError, MissingDependency, UsageError


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1000))
def test_factor_for_divides_both_sides_and_keeps_enough(height: int, width: int, shrink_to: int) -> None:
    factor = factor_for(height, width, shrink_to)
    assert factor in (1, 2, 4, 8)
    assert height % factor == width % factor == 0
    assert factor == 1 or min(height, width) // factor >= shrink_to
    larger = [
        f for f in (2, 4, 8) if f > factor and height % f == width % f == 0 and min(height, width) // f >= shrink_to
    ]
    assert not larger


def test_factor_for_is_one_unless_asked() -> None:
    assert factor_for(8000, 8000, None) == 1


def test_from_16_bits_rounds_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(from_16_bits(values), np.round(values / 257))


def test_check_size() -> None:
    check_size(1, MAX_PIXELS)
    with pytest.raises(ItemError, match="more than the 178,956,970 allowed"):
        check_size(1, MAX_PIXELS + 1)
    with pytest.raises(ItemError, match="5 x 0 pixels"):
        check_size(0, 5)


def forget() -> None:
    tools._found.cache_clear()
    tools._opencv.cache_clear()


def test_the_first_pictures_may_come_to_many_threads_at_once() -> None:
    """To the others OpenCV looks broken while one thread is importing it."""
    program = """
import io, threading, sys
from PIL import Image
import penstock
file = io.BytesIO(); Image.new("RGB", (8, 8)).save(file, "PNG")
start, errors = threading.Barrier(8), []
def work():
    start.wait(20)
    try:
        penstock.decode(file.getvalue())
    except Exception as error:
        errors.append(repr(error))
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]; [thread.join(20) for thread in threads]
sys.exit("; ".join(errors) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_opencv_gets_no_threads_of_its_own() -> None:
    import cv2

    cv2.setNumThreads(4)
    forget()
    find_tools("auto")
    assert cv2.getNumThreads() == 1


@pytest.fixture
def without_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "simplejpeg" else real(name))
    forget()
    yield
    forget()


def test_an_unknown_decoder_is_refused() -> None:
    with pytest.raises(UsageError, match="'fast' is not known; use one of auto, simplejpeg"):
        decode(b"", decoder="fast")


@pytest.mark.usefixtures("without_simplejpeg")
def test_a_missing_decoder_is_refused_by_name_and_otherwise_done_without() -> None:
    with pytest.raises(MissingDependency, match=r"penstock\[images\]"):
        decode(b"", decoder="simplejpeg")
    assert "simplejpeg" not in choose_decoder()
    buffer = io.BytesIO()
    Image.new("RGB", (9, 6)).save(buffer, "JPEG")
    assert decode(buffer.getvalue()).shape == (6, 9, 3)


def test_choose_decoder_names_versions() -> None:
    import cv2
    import PIL
    import simplejpeg

    pillow = f"pillow {PIL.__version__}"
    assert choose_decoder() == f"simplejpeg {simplejpeg.__version__}+opencv {cv2.__version__}+{pillow}"
    assert choose_decoder("pillow") == pillow
