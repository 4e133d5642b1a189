from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._sources.files import FolderSource, GlobSource
from penstock.errors import UsageError


def plant(root: Path, names: Iterable[str | bytes]) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")


def ids(source: Iterable[object]) -> list[object]:
    return [item.id for item in source]  # type: ignore[attr-defined]


def test_a_walk_sorts_each_directory_by_name_as_bytes(tmp_path: Path) -> None:
    plant(tmp_path, ["b.jpg", "B.jpg", "a/z.jpg", "a.jpg", "a/b/c.png", "a-b.jpg", "é.jpg", "z.jpg", "10.jpg", "9.jpg"])
    source = FolderSource(tmp_path)
    expected = [*"10.jpg 9.jpg B.jpg a/b/c.png a/z.jpg a-b.jpg a.jpg b.jpg z.jpg é.jpg".split()]
    assert ids(source) == expected == ids(source)
    assert source.count() == 10


@given(st.lists(st.lists(st.sampled_from(["a", "b.jpg", "é", "a.", "\n", "Z"]), min_size=1, max_size=3), max_size=12))
def test_any_tree_gives_every_image_once(tmp_path_factory: pytest.TempPathFactory, trees: list[list[str]]) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = {"/".join([*parts[:-1], parts[-1] + "_.jpg"]) for parts in trees}
    plant(root, names)
    found = ids(FolderSource(root))
    assert sorted(map(str, found)) == sorted(names)
    assert [str(i).split("/")[0] for i in found] == sorted(
        (str(i).split("/")[0] for i in found), key=lambda part: part.encode()
    )


def test_items_have_path_and_stamp(tmp_path: Path) -> None:
    plant(tmp_path, ["d/a.jpg"])
    os.utime(tmp_path / "d" / "a.jpg", ns=(0, 123_456_789))
    (item,) = FolderSource(tmp_path)
    assert (item.id, item.path, item.stamp, item.row) == ("d/a.jpg", str(tmp_path / "d/a.jpg"), (1, 123_456_789), None)


def test_what_is_no_image_by_suffix_is_ignored_and_counted(tmp_path: Path) -> None:
    plant(tmp_path, ["a.JPG", "b.Jpeg", "c.txt", "d/e.json", "jpg", ".jpg", "f.webp", "g.tiff", "h.gif", "i.bmp"])
    os.mkfifo(tmp_path / "pipe.jpg")
    source = FolderSource(tmp_path)
    assert ids(source) == ["a.JPG", "b.Jpeg", "f.webp", "g.tiff", "h.gif", "i.bmp"]
    assert source.ignored == 5
    assert source.count() == 6
    assert source.ignored == 5


def test_a_directory_called_like_a_photo_is_walked(tmp_path: Path) -> None:
    plant(tmp_path, ["x.jpg/y.jpg"])
    (tmp_path / "empty.jpg").mkdir()
    source = FolderSource(tmp_path)
    assert (ids(source), source.ignored) == (["x.jpg/y.jpg"], 0)


def test_the_out_folder_and_penstocks_own_are_left_out(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg", "out/b.jpg", "deep/out/c.jpg", ".penstock/d.jpg", "r.jsonl.penstock/e.jpg"])
    out = tmp_path / "out"
    assert ids(FolderSource(tmp_path, exclude=[out, out / ".penstock"])) == ["a.jpg", "deep/out/c.jpg"]
    (tmp_path / "alias").symlink_to(out)
    assert ids(FolderSource(tmp_path, exclude=[out])) == ["a.jpg", "deep/out/c.jpg"]


def test_out_that_is_the_source_itself_leaves_the_source(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg", "a.jpg.json", ".penstock/x.jpg"])
    assert ids(FolderSource(tmp_path, exclude=[tmp_path, tmp_path / ".penstock"])) == ["a.jpg"]


def test_out_that_comes_to_be_during_the_walk_is_left_out(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg", "b/c.jpg"])
    walk = iter(FolderSource(tmp_path, exclude=[tmp_path / "z", tmp_path / "b" / "out"]))
    assert next(walk).id == "a.jpg"
    plant(tmp_path, ["b/out/d.jpg"])
    assert ids(walk) == ["b/c.jpg"]


def test_loops_of_links_end_and_other_links_are_followed(tmp_path: Path) -> None:
    plant(tmp_path, ["a/b/1.jpg", "c/2.jpg"])
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/b/top").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to("self")
    (tmp_path / "a/self.jpg").symlink_to("self.jpg")
    (tmp_path / "a/toc").symlink_to(tmp_path / "c")
    (tmp_path / "c/toa").symlink_to(tmp_path / "a")
    found = ids(FolderSource(tmp_path))
    assert {"a/b/1.jpg", "a/toc/2.jpg", "c/2.jpg", "c/toa/b/1.jpg"} <= set(found)
    assert len(found) == len(set(found)) <= 20


def test_a_link_that_leads_nowhere_is_an_item(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    plant(tmp_path, ["b.jpg"])
    items = list(FolderSource(tmp_path))
    assert [(item.id, item.stamp is None) for item in items] == [("a.jpg", True), ("b.jpg", False)]


def test_a_file_removed_between_listing_and_looking_is_an_item(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg", "b.jpg"])
    walk = iter(FolderSource(tmp_path))
    next(walk)
    (tmp_path / "b.jpg").unlink()
    assert [(item.id, item.stamp) for item in walk] == [("b.jpg", None)]


def test_hard_names(tmp_path: Path) -> None:
    longest = "n" * 251 + ".jpg"
    plant(tmp_path, ["new\nline.jpg", b"latin\xe9\xff.jpg", longest, "%41.jpg", b"d\xe9/x.jpg", "tab\t'\".jpg"])
    items = list(FolderSource(tmp_path))
    assert {item.id for item in items} == {
        *("new\nline.jpg", "latin%E9%FF.jpg", longest, "%41.jpg", "d%E9/x.jpg", "tab\t'\".jpg")
    }
    for item in items:
        assert item.path is not None
        assert Path(item.path).read_bytes() == b"x"


@pytest.mark.parametrize("names", [[b"\xe9.jpg", b"%E9.jpg"], [b"d\xe9/a.jpg", b"d%E9/b.jpg"]])
def test_two_names_with_one_id_are_refused(tmp_path: Path, names: list[bytes]) -> None:
    plant(tmp_path, names)
    with pytest.raises(UsageError, match=r"%E9.*would have the same id"):
        list(FolderSource(tmp_path))


def test_a_directory_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, ["a.jpg", "locked/b.jpg"])
    scandir = os.scandir

    def refusing(path: bytes) -> object:
        if path.endswith(b"locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    source = FolderSource(tmp_path)
    for reading in (lambda: list(source), source.count):
        with pytest.raises(UsageError, match=r"locked cannot be listed .*Permission denied"):
            reading()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg"])
    for path in (tmp_path / "gone", tmp_path / "a.jpg"):
        with pytest.raises(UsageError, match="is not a folder"):
            FolderSource(path)


def test_an_empty_folder_has_no_items(tmp_path: Path) -> None:
    source = FolderSource(tmp_path)
    assert (list(source), source.count(), source.ignored) == ([], 0, 0)


def test_one_listing_a_level_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, [f"{d}/{i}.jpg" for d in "abc" for i in range(3)])
    listed: list[bytes] = []
    scandir = os.scandir

    def listing(path: bytes) -> Iterator[os.DirEntry[bytes]]:
        listed.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)
    walk = iter(FolderSource(tmp_path))
    next(walk)
    assert listed[1:] == [b"a"]


def test_describe_has_no_absolute_path(tmp_path: Path) -> None:
    assert str(tmp_path) not in str(FolderSource(tmp_path).describe())
    assert str(tmp_path) not in str(GlobSource(f"{tmp_path}/*.jpg").describe())


def test_glob_is_sorted_and_relative_to_its_fixed_folder(tmp_path: Path) -> None:
    plant(tmp_path, ["p/b/2.jpg", "p/a/1.jpg", "p/a/x.txt", "p/B/3.jpg", "q/4.jpg"])
    source = GlobSource(f"{tmp_path}/p/*/*.jpg")
    assert ids(source) == ["B/3.jpg", "a/1.jpg", "b/2.jpg"] == list(source.ids())
    assert source.count() == 3
    assert all(item.path and Path(item.path).is_file() and item.stamp for item in source)


def test_glob_filters_by_suffix_unless_the_pattern_says_one(tmp_path: Path) -> None:
    plant(tmp_path, ["a.jpg", "b.raw", "d.jpg/c.jpg"])
    everything = GlobSource(f"{tmp_path}/**")
    assert (ids(everything), everything.ignored) == (["a.jpg", "d.jpg/c.jpg"], 1)
    raw = GlobSource(f"{tmp_path}/*.raw")
    assert (ids(raw), raw.ignored) == (["b.raw"], 0)
    assert ids(GlobSource(f"{tmp_path}/*.jpg")) == ["a.jpg"]
    assert ids(GlobSource(f"{tmp_path}/**/**/*.jpg")) == ["a.jpg", "d.jpg/c.jpg"]
