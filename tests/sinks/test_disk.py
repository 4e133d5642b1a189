from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock._sinks import disk
from penstock.errors import SinkError


def test_an_os_error_becomes_a_sink_error_that_names_file_and_reason() -> None:
    message = r"out/x cannot be written: No space left on device \(ENOSPC\)\. .*same command"
    with pytest.raises(SinkError, match=message), disk.writing("out/x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(disk.cannot_write("x", OSError("odd"))).startswith("x cannot be written: odd. ")


def test_write_all_goes_on_where_the_system_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    disk.write_file(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_many_files_are_synced_by_one_call_and_few_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(disk, "sync_file", lambda path: synced.append(str(path)))
    monkeypatch.setattr(disk, "sync_folder", lambda path: synced.append(str(path)))
    few = [f"{tmp_path}/a", f"{tmp_path}/d/b"]
    disk.sync_all(tmp_path, few)
    assert synced == [*few, str(tmp_path), f"{tmp_path}/d"]
    synced.clear()
    calls: list[int] = []

    def syncfs(fd: int) -> int:
        calls.append(fd)
        return 0

    library = SimpleNamespace(syncfs=syncfs)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    disk.sync_all(tmp_path, few * 20)
    assert (len(calls), synced) == (1, [])
    del library.syncfs  # as on macOS
    disk.sync_all(tmp_path, few * 20)
    assert (len(calls), len(synced)) == (1, 42)


def test_a_failed_sync_of_the_file_system_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syncfs=lambda fd: -1))
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync_all(tmp_path, ["x"] * 50)


def test_real_syncs_work_here(tmp_path: Path) -> None:
    for n in (3, 50):
        paths = [f"{tmp_path}/{i}" for i in range(n)]
        for path in paths:
            disk.write_file(path, b"x")
        disk.sync_all(tmp_path, paths)


def test_put_in_place(tmp_path: Path) -> None:
    disk.write_file(tmp_path / "a", b"new")
    disk.write_file(tmp_path / "b", b"old, and longer")
    disk.put_in_place(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"
