"""Where the cgroups of this process lie, in version 1, version 2 and both at once. Parsing is pure.

Sources: the kernel's cgroup-v1/cgroups.rst and cgroup-v2.rst, proc_pid_mountinfo(5), cgroup_namespaces(7).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNIFIED = ""
"""The name of version 2's one hierarchy, as /proc/self/cgroup has it."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A hierarchy as it is seen here: the cgroup `root` lies at the folder `point`; `controllers` that it is for."""

    root: str
    point: str
    controllers: frozenset[str]


def folders_of(controller: str, root: Path) -> list[Path]:
    """Return the folders of this process's cgroup for `controller`, and of its ancestors; [] without one.

    Limits of all of them hold. `root` is where `proc` and `sys` are looked up.
    """
    path = parse_cgroups(read(root / "proc/self/cgroup")).get(controller)
    mounts = [m for m in parse_mounts(read(root / "proc/self/mountinfo")) if controller in m.controllers]
    if path is None or not mounts:
        return []
    mount, below = placed(path, mounts)
    return [root / mount.point.lstrip("/") / part for part in (below, *below.parents)]


def placed(path: str, mounts: Sequence[Mount]) -> tuple[Mount, PurePosixPath]:
    """Return the mount in which the cgroup `path` lies, and where below it.

    A container may see its own cgroup alone, under another name than `path`: then it is what is mounted.
    """
    for mount in mounts:
        if ".." not in PurePosixPath(path).parts and PurePosixPath(path).is_relative_to(mount.root):
            return mount, PurePosixPath(path).relative_to(mount.root)
    return mounts[0], PurePosixPath()


def parse_cgroups(text: str | None) -> dict[str, str]:
    """Return controller -> cgroup path from `/proc/self/cgroup`; the unified (v2) hierarchy has the name ""."""
    paths: dict[str, str] = {}
    for line in (text or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def parse_mounts(text: str | None) -> list[Mount]:
    """Return the cgroup hierarchies in a `/proc/self/mountinfo`."""
    found = []
    for line in (text or "").splitlines():
        before, _, behind = line.partition(" - ")
        kind, *_, options = behind.split()
        if kind in ("cgroup", "cgroup2"):
            root, point = (_ESCAPED.sub(lambda m: chr(int(m[1], 8)), name) for name in before.split()[3:5])
            controllers = {UNIFIED} if kind == "cgroup2" else options.split(",")
            found.append(Mount(root, point, frozenset(controllers)))
    return found


def read(path: Path) -> str | None:
    """Return the text of a file of the kernel's, None where there is none or it may not be read."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
