"""Ids -> file names below the output folder: no name leaves it, and no two ids have one name."""

from __future__ import annotations

import re
from hashlib import blake2b

from penstock.errors import ItemError

SUFFIXES = (".json", ".npz")

_MAX_BYTES = 255
_KEPT_BYTES = 200
_RESERVED = re.compile(r"(|\.|\.\.|\.penstock|.*\.(json|npz))~*", re.DOTALL | re.IGNORECASE)
_LIKE_A_CUT = re.compile(r".*~[0-9a-f]{32}", re.DOTALL)


def stem_of(id_: int | str) -> str:
    """Return the path below the output folder, without suffix, for the result of `id_`.

    It is the id itself, but for three cases. A folder that is called like one of our files, like our own folder, or
    like what would lead out of the output (nothing, as in `/abs`, `.` or `..`), has a `~` behind; so have those that
    are so called with `~` behind. A name too long for the file system is cut to 200 bytes, `~` and its hash; so is
    every name that looks like such a cut. Both rules are one to one, so different ids have different names, and a file
    never has the name of a folder. Only a file system that does not tell `A` from `a` can join two names.

    Raises:
        ItemError: the id has a NUL or a lone surrogate, which no file name can have.
    """
    if isinstance(id_, int):
        return str(id_)
    if "\0" in id_:
        raise ItemError(f"{id_!r}: a name of a file cannot have a NUL in it.")
    *folders, name = id_.split("/")
    longest = _MAX_BYTES - max(map(len, SUFFIXES))
    return "/".join([*(_cut(_safe(folder), _MAX_BYTES) for folder in folders), _cut(name, longest)])


def _safe(folder: str) -> str:
    return folder + "~" if _RESERVED.fullmatch(folder) else folder


def _cut(name: str, max_bytes: int) -> str:
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise ItemError(f"{name!r}: no name of a file in UTF-8: {error.reason}.") from error
    if len(raw) <= max_bytes and not _LIKE_A_CUT.fullmatch(name):
        return name
    # "ignore" drops the part of a character that the cut went through, nothing else: `raw` is valid UTF-8.
    return f"{raw[:_KEPT_BYTES].decode(errors='ignore')}~{blake2b(raw, digest_size=16).hexdigest()}"
