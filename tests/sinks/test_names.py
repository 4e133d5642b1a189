from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._sinks.names import SUFFIXES, stem_of
from penstock.errors import ItemError

PARTS = st.sampled_from(
    [
        "a",
        "b.jpg",
        "x.json",
        "x.json~",
        "x.NPZ",
        "",
        ".",
        "..",
        "..~",
        "~",
        ".penstock",
        "é" * 120,
        "é" * 120 + "x",
        "C:",
    ]
)


def test_usual_ids_are_their_own_names() -> None:
    for id_ in ("a.jpg", "d/e f/a.jpg", "new\nline.jpg", "x.json", "d~/a.jpg"):
        assert stem_of(id_) == id_
    assert stem_of(17) == "17"


@pytest.mark.parametrize(
    ("id_", "stem"),
    [
        ("../a.jpg", "..~/a.jpg"),
        ("a/../../b.jpg", "a/..~/..~/b.jpg"),
        ("/etc/passwd", "~/etc/passwd"),
        ("./a.jpg", ".~/a.jpg"),
        ("a//b.jpg", "a/~/b.jpg"),
        ("..~/a.jpg", "..~~/a.jpg"),
        ("a.jpg.json/b.jpg", "a.jpg.json~/b.jpg"),
        (".penstock/ledger.sqlite", ".penstock~/ledger.sqlite"),
        ("..", ".."),
    ],
)
def test_nothing_leaves_the_output_or_falls_on_our_own_files(id_: str, stem: str) -> None:
    assert stem_of(id_) == stem


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(PARTS, min_size=1, max_size=4))
def test_different_ids_never_share_a_file_or_a_folder_with_a_file(a: list[str], b: list[str]) -> None:
    stems = [stem_of("/".join(parts)) for parts in (a, b)]
    files = [{stem + suffix for suffix in SUFFIXES} for stem in stems]
    if a != b:
        assert not files[0] & files[1]
    for mine, stem in ((files[0], stems[1]), (files[1], stems[0])):
        assert not mine & {str(folder) for folder in PurePosixPath(stem).parents}
    for stem in stems:
        path = os.path.normpath(f"/out/{stem}.json")
        assert path.startswith("/out/")
        assert path == f"/out/{stem}.json"  # nothing to normalise away: no `..`, no `//`
        assert all(len(part.encode()) <= 255 for part in path.split("/"))


def test_long_names_are_cut_to_200_bytes_and_a_hash() -> None:
    name = "x" * 251 + ".jpg"
    stem = stem_of(f"d/{name}")
    kept, _, digest = stem.removeprefix("d/").rpartition("~")
    assert (kept, len(digest)) == ("x" * 200, 32)
    assert stem_of("x" * 250) == "x" * 250
    assert len(stem_of("x" * 251)) == 233
    assert stem_of("é" * 200).startswith("é" * 100 + "~")
    assert stem_of("é" + "€" * 100).startswith("é" + "€" * 66 + "~")  # 200 bytes fall on the boundary of a sign


def test_a_name_like_a_cut_one_is_cut_itself() -> None:
    cut = stem_of("x" * 300)
    assert stem_of(cut) != cut
    assert stem_of(f"{cut}/a.jpg") != f"{cut}/a.jpg"


@pytest.mark.parametrize("id_", ["a\0b", "\ud800.jpg"])
def test_what_can_be_no_name_is_an_item_error(id_: str) -> None:
    with pytest.raises(ItemError):
        stem_of(id_)
