"""Files found by walking a folder or by a glob pattern, in an order that is the same on every machine."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from penstock._contracts import Item
from penstock._decode import IMAGE_SUFFIXES
from penstock._sources.paths import AnyPath, id_of, stamp_of
from penstock.errors import UsageError

_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)
_OWN_SUFFIX = b".penstock"
_WILD = "*?["

Identity = tuple[int, int]
"""(device, inode): what a directory is, by whatever path one came to it."""


def is_image(name: bytes) -> bool:
    """Return whether `name` ends in a suffix of an image, in either case."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES


@dataclass(slots=True)
class _Level:
    """One directory of the walk: what is left of its listing."""

    path: bytes
    prefix: str
    identity: Identity
    names: Iterator[bytes]
    folders: set[bytes]


class FolderSource:
    """The images in a folder and in all folders below it; ids are their paths relative to it, with `/`.

    The order: each directory's entries, files and directories alike, are sorted by name as bytes, and a directory is
    walked where its name stands. One listing per level of depth is in memory.

    Symbolic links are followed, also to directories, but never to one of the directories above (a loop). A directory
    is walked whatever its name (`x.jpg/`); `.penstock` and `NAME.penstock` hold penstock's own files and are left out,
    as is everything in `exclude`. Files without the suffix of an image, and what is no file (pipes, devices), are
    counted in `ignored`.

    Raises:
        UsageError: `root` is no folder; while iterating: a directory cannot be listed, or two names give the same id
            (bytes that are not UTF-8 are written `%XX`, and another file may be called so).
    """

    positional = False

    def __init__(self, root: AnyPath, *, exclude: Sequence[AnyPath] = ()) -> None:
        """Check that `root` is a folder; nothing is listed yet."""
        self._root = os.fsencode(root)
        self._exclude = tuple(os.fsencode(path) for path in exclude)
        self.ignored = 0
        if not os.path.isdir(self._root):
            raise UsageError(f"{_shown(self._root)} is not a folder.")

    def __iter__(self) -> Iterator[Item]:
        """Yield the items."""
        for level, name in self._walk():
            path = os.path.join(level.path, name)
            yield Item(level.prefix + id_of(name), os.fsdecode(path), None, stamp_of(path))

    def count(self) -> int:
        """Return how many items there are, by a walk that looks at names only (about 1 s for a million files)."""
        return sum(1 for _ in self._walk())

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return {"kind": "folder"}

    def __repr__(self) -> str:
        return f"FolderSource({_shown(self._root)})"

    def _walk(self) -> Iterator[tuple[_Level, bytes]]:
        """Yield (directory, name) of every item; `ignored` is right when the walk ends."""
        walk = _Walk(self._exclude)
        try:
            yield from walk.below(self._root)
        finally:
            self.ignored = walk.ignored


class _Walk:
    """One walk: counts what it ignores."""

    def __init__(self, exclude: Sequence[bytes]) -> None:
        self._exclude = exclude
        self.ignored = 0

    def below(self, root: bytes) -> Iterator[tuple[_Level, bytes]]:
        stack = [self._enter(root, "", _identity(root))]
        while stack:
            level = stack[-1]
            for name in level.names:
                if name not in level.folders:
                    yield level, name
                elif (deeper := self._descend(level, name, stack)) is not None:
                    stack.append(deeper)
                    break
            else:
                stack.pop()

    def _descend(self, level: _Level, name: bytes, above: Sequence[_Level]) -> _Level | None:
        """Return the directory to walk next, or None where it is excluded or closes a loop of links."""
        path = os.path.join(level.path, name)
        identity = _identity(path)
        if identity in self._excluded() or any(identity == parent.identity for parent in above):
            return None
        return self._enter(path, f"{level.prefix}{id_of(name)}/", identity)

    def _excluded(self) -> set[Identity]:
        """Return what the excluded paths are now: `out` may come to be while the walk is under way."""
        return {_identity(path) for path in self._exclude if os.path.exists(path)}

    def _enter(self, path: bytes, prefix: str, identity: Identity) -> _Level:
        names: list[bytes] = []
        folders: set[bytes] = set()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._place(entry, names, folders)
        except OSError as error:
            raise _unlistable(path, error) from error
        names.sort()
        _check_ids(path, names)
        return _Level(path, prefix, identity, iter(names), folders)

    def _place(self, entry: os.DirEntry[bytes], names: list[bytes], folders: set[bytes]) -> None:
        name = entry.name
        if _is_folder(entry):
            if not name.endswith(_OWN_SUFFIX):
                folders.add(name)
                names.append(name)
        elif is_image(name) and (_is_file(entry) or entry.is_symlink()):
            names.append(name)  # a link that leads nowhere is an item, and fails as one
        else:
            self.ignored += 1


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:  # not knowing whether it is a directory could lose all that is in it
            raise
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _identity(path: bytes) -> Identity:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unlistable(path, error) from error
    return found.st_dev, found.st_ino


def _check_ids(folder: bytes, names: Sequence[bytes]) -> None:
    """Refuse two names of one directory that give the same id."""
    escaped = {id_of(name): name for name in names if not _is_utf8(name)}
    for name in names if escaped else ():
        other = escaped.get(id_of(name), name)
        if other != name:
            raise UsageError(
                f"In the folder {_shown(folder)}, {name!r} and {other!r} would have the same id {id_of(name)!r}, "
                "because a byte that is not UTF-8 is written %XX. Rename one of them."
            )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unlistable(path: bytes, error: OSError) -> UsageError:
    where = error.filename if isinstance(error.filename, bytes) else path
    return UsageError(
        f"The folder {_shown(path)} cannot be listed ({_shown(where)}: {error.strerror}), and what is in it would be "
        "missing without a word. Make it readable, or move it away."
    )


def _shown(path: bytes) -> str:
    return id_of(path)


class GlobSource:
    """The files that match a glob pattern (`**` = any depth), sorted by path as bytes.

    Ids are relative to the folder that the pattern names before its first wildcard. Where the pattern does not end in
    a suffix (`photos/**`, `photos/*`), files without the suffix of an image are left out and counted in `ignored`;
    `*.raw` takes them all. All matches are in memory while iterating.
    """

    positional = False

    def __init__(self, pattern: AnyPath) -> None:
        """Take a pattern; nothing is matched yet."""
        self._pattern = os.fspath(pattern)
        parts = PurePath(self._pattern).parts
        fixed = next((i for i, part in enumerate(parts) if any(sign in part for sign in _WILD)), len(parts) - 1)
        self._root = os.fsencode(PurePath(*parts[:fixed]))
        suffix = os.path.splitext(self._pattern)[1]
        self._all = bool(suffix) and not any(sign in suffix for sign in _WILD)
        self.ignored = 0

    def __iter__(self) -> Iterator[Item]:
        """Yield the items."""
        for path in self._matches():
            yield Item(self._id(path), os.fsdecode(path), None, stamp_of(path))

    def ids(self) -> Iterator[str]:
        """Yield the ids alone."""
        return (self._id(path) for path in self._matches())

    def count(self) -> int:
        """Return how many files match."""
        return len(self._matches())

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return {"kind": "glob"}

    def __repr__(self) -> str:
        return f"GlobSource({self._pattern!r})"

    def _id(self, path: bytes) -> str:
        return id_of(os.path.relpath(path, self._root))

    def _matches(self) -> list[bytes]:
        found = {os.fsencode(path) for path in glob.iglob(self._pattern, recursive=True)}
        files = [path for path in found if not os.path.isdir(path)]
        matches = sorted(path for path in files if self._all or is_image(path))
        self.ignored = len(files) - len(matches)
        return matches
