"""Files written so that a kill or a full disk leaves nothing torn: whole to a temporary name, durable, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import SinkError

AnyPath = str | Path

_MANY_FILES = 16


@contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Turn an OSError inside into a SinkError that names `path` and the reason."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: AnyPath, error: OSError) -> SinkError:
    """Return the error for an output that the system refuses to write."""
    code = errno.errorcode.get(error.errno or 0, "")
    return SinkError(
        f"{path} cannot be written: {error.strerror or error}{code and f' ({code})'}. What was committed is safe: mend "
        "this and run the same command again."
    )


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; a system may take less at a time than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync(fd: int) -> None:
    """Make what was written to `fd` durable."""
    getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync


def sync_folder(path: AnyPath) -> None:
    """Make the names in the folder `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: AnyPath, data: bytes) -> None:
    """Write a new file, not yet durable; one that is there is overwritten."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def sync_file(path: AnyPath) -> None:
    """Make the contents of a file durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file, durably; its contents must be durable already."""
    temporary.replace(path)
    sync_folder(path.parent)


def sync_all(folder: AnyPath, paths: Sequence[str]) -> None:
    """Make the files at `paths`, all below `folder`, and their names durable.

    Many files are made durable by one call for the whole file system where there is one (Linux, syncfs(2)): some
    hundred waits for a disk, one after another, would take longer than a model takes for the items.
    """
    if len(paths) > _MANY_FILES and _sync_file_system(folder):
        return
    for path in paths:
        sync_file(path)
    for parent in sorted({os.path.dirname(path) for path in paths}):
        sync_folder(parent)


def _sync_file_system(folder: AnyPath) -> bool:
    """Make everything on the file system of `folder` durable; False where the system has no such call."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(fd)
    return True
