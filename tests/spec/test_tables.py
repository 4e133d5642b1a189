from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock._spec import InputSpec, OutputSpec, Spec
from penstock._spec.tables import read_labels, read_tables, read_toml
from penstock.errors import SpecError

WHOLE = """
[input]
size = [224, 200]
resize = "short_side"
short_side = 256
crop = "center"
interpolation = "bicubic"
antialias = true
color = "bgr"
mean = [104, 117.5, 123]
std = 1
layout = "NHWC"
dtype = "float16"
pad_value = 114

[output]
task = "classify"
activation = "softmax"
labels = "names.txt"
index_offset = -1
top_k = 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "model.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        read_toml(written(folder, text))
    return str(caught.value)


def test_read_toml_reads_every_key(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b" a b \r\nc\n\nd\n")
    assert read_toml(written(tmp_path, WHOLE)) == Spec(
        InputSpec(
            size=(224, 200),
            resize="short_side",
            short_side=256,
            crop="center",
            interpolation="bicubic",
            color="bgr",
            mean=(104.0, 117.5, 123.0),
            std=(1.0,),
            layout="NHWC",
            dtype="float16",
            pad_value=114,
        ),
        OutputSpec(task="classify", activation="softmax", labels=(" a b ", "c", "", "d"), index_offset=-1, top_k=3),
    )


def test_read_toml_for_lines_of_text(tmp_path: Path) -> None:
    text = '[input]\nkeep_aspect_height = 32\nstd = 127.5\n[output]\ntask = "ctc"\nblank = -1\nlabels = ["a", " "]'
    spec = read_toml(written(tmp_path, text))
    assert spec.input.keep_aspect_height == 32
    assert (spec.output.blank, spec.output.labels) == (-1, ("a", " "))


def test_errors_name_file_table_and_key(tmp_path: Path) -> None:
    assert "model.toml: [input] has no key 'colour'. Did you mean 'color'?" in refusal(
        tmp_path, "[input]\ncolour='rgb'"
    )
    assert "[output] has no key 'zzz'. Known: task, activation" in refusal(tmp_path, "[output]\nzzz=1")
    assert "there is no table 'inputs'. Did you mean 'input'?" in refusal(tmp_path, "[inputs]")
    assert "model.toml: [input] size=[224]: give" in refusal(tmp_path, "[input]\nsize=[224]")
    assert "input is 5, not a table" in refusal(tmp_path, "input = 5")
    assert "model.toml is no TOML" in refusal(tmp_path, "[input")
    assert "cannot be read: No such file" in refusal_of(tmp_path / "none.toml")
    (tmp_path / "model.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML" in refusal_of(tmp_path / "model.toml")


def refusal_of(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_toml(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"a\nb", ("a", "b")),
        (b"a\nb\n", ("a", "b")),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"a\n\n", ("a", "")),
        (b" \n\ta b\t\n", (" ", "\ta b\t")),
        (b"\xef\xbb\xbfa\nb", ("a", "b")),
        (b"a\x0b\x1c\xe2\x80\xa8\nb", ("a\x0b\x1c\u2028", "b")),
    ],
)
def test_labels_are_lines_stripped_of_nothing_but_their_end(tmp_path: Path, content: bytes, labels: Any) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt") == labels
    spec = read_tables({"output": {"task": "ctc", "labels": "labels.txt"}}, "it", tmp_path)
    assert spec.output.labels == labels


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name, words in (
        ("none.txt", "none.txt cannot be read: No such file"),
        ("latin.txt", "latin.txt are not UTF-8"),
    ):
        with pytest.raises(SpecError, match=words):
            read_labels(tmp_path / name)
    with pytest.raises(SpecError, match="labels=5"):
        read_labels(5)
