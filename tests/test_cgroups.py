"""Layouts of cgroups as machines and containers have them, planted in a folder; a real quota, where it can be set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from penstock._cgroups import UNIFIED, Mount, folders_of, parse_cgroups, parse_mounts, placed
from penstock._devices import cpu_quota

POD = "kubepods-burstable-pod2f0c9a11_7d1e_4c0b_9a53_1be6b0a0d7c4.slice"
V1 = "cpu.cfs_quota_us cpu.cfs_period_us".split()


@dataclass(frozen=True)
class Layout:
    """What /proc/self says, the limits that there are (path below /sys/fs/cgroup -> text), and the quota of it all."""

    cgroup: str
    mountinfo: str
    limits: dict[str, str]
    cpus: float | None
    others: dict[str, str] = field(default_factory=dict)
    """Files that lie there and do not count."""


def v1(folder: str, quota_us: int, period_us: int = 100_000) -> dict[str, str]:
    return {f"{folder}/{name}": f"{value}\n" for name, value in zip(V1, (quota_us, period_us), strict=True)}


LAYOUTS = {
    "systemd, v2: CPUQuota=150% of a slice holds for what is below it": Layout(
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/work.scope\n",
        "25 18 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        {
            "user.slice/cpu.max": "max 100000\n",
            "user.slice/user-1000.slice/cpu.max": "150000 100000\n",
            "user.slice/user-1000.slice/user@1000.service/app.slice/work.scope/cpu.max": "max 100000\n",
        },
        1.5,
        {"system.slice/cpu.max": "10000 100000\n"},
    ),
    "docker --cpus=0.5, v2, cgroups of its own": Layout(
        "0::/\n",
        "712 699 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
        {"cpu.max": "50000 100000\n"},
        0.5,
    ),
    "docker --cgroupns=host, v2: the whole tree is seen, and another container's limit": Layout(
        "0::/system.slice/docker-4be1.scope\n",
        "712 699 0:28 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n",
        {"system.slice/docker-4be1.scope/cpu.max": "200000 100000\n"},
        2.0,
        {"system.slice/docker-77aa.scope/cpu.max": "10000 100000\n"},
    ),
    "docker --cpus=3, v1: its cgroup is the mount, under the host's name": Layout(
        "5:memory:/docker/4be1\n4:cpu,cpuacct:/docker/4be1\n1:name=systemd:/docker/4be1\n",
        "841 830 0:33 /docker/4be1 /sys/fs/cgroup/memory ro,nosuid,relatime master:16 - cgroup cgroup rw,memory\n"
        "840 830 0:32 /docker/4be1 /sys/fs/cgroup/cpu,cpuacct ro,relatime master:15 - cgroup cgroup rw,cpu,cpuacct\n",
        v1("cpu,cpuacct", 300_000),
        3.0,
    ),
    "a cgroup made inside of a docker container, v1": Layout(
        "4:cpu,cpuacct:/docker/4be1/inner\n",
        "840 830 0:32 /docker/4be1 /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n",
        {**v1("cpu,cpuacct", 400_000), **v1("cpu,cpuacct/inner", 100_000)},
        1.0,
    ),
    "kubernetes, v2: limits.cpu=2500m of the pod, less of one container": Layout(
        f"0::/kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-0d4f.scope\n",
        "1410 1399 0:26 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n",
        {
            "kubepods.slice/cpu.max": "max 100000\n",
            f"kubepods.slice/kubepods-burstable.slice/{POD}/cpu.max": "250000 100000\n",
            f"kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-0d4f.scope/cpu.max": "75000 50000\n",
        },
        1.5,
    ),
    "kubernetes, v1, a request and no limit: shares are no quota": Layout(
        "9:cpu,cpuacct:/kubepods/burstable/pod2f0c/0d4f\n",
        "14 13 0:26 /kubepods/burstable/pod2f0c/0d4f /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
        v1("cpu,cpuacct", -1),
        None,
        {"cpu,cpuacct/cpu.shares": "204\n"},
    ),
    "hybrid: v2 beside v1, whose controller is mounted alone under the two names": Layout(
        "2:cpuacct,cpu:/job\n1:name=systemd:/\n0::/\n",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpuacct,cpu rw,relatime - cgroup cgroup rw,cpuacct,cpu\n",
        {**v1("cpuacct,cpu/job", 250_000), "unified/cgroup.procs": "1\n"},
        2.5,
    ),
    "a cgroup outside of what the namespace sees: what is mounted counts": Layout(
        "0::/../../other\n",
        "25 18 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        {"cpu.max": "100000 100000\n"},
        1.0,
        {"other/cpu.max": "10000 100000\n"},
    ),
    "no cgroups at all": Layout("", "22 27 0:21 / /proc rw,relatime - proc proc rw\n", {}, None),
    "a hierarchy that is not mounted": Layout("4:cpu:/job\n", "", v1("cpu/job", 100_000), None),
    "a quota of a hundredth, at a mount with a blank in its name": Layout(
        "0::/\n",
        "25 18 0:22 / /sys/fs/cgroup/a\\040b rw - cgroup2 cgroup2 rw\n",
        {"a b/cpu.max": "1000 100000\n"},
        0.01,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_quota_of_a_layout(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    trees = {f"sys/fs/cgroup/{path}": text for path, text in {**layout.limits, **layout.others}.items()}
    files = {"proc/self/cgroup": layout.cgroup, "proc/self/mountinfo": layout.mountinfo, **trees}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert cpu_quota(tmp_path) == layout.cpus


def test_cgroups_of_a_hybrid_machine() -> None:
    text = "4:memory:/job/a:b\n1:cpu,cpuacct:/job\n2:name=systemd:/\n0::/user.slice\n"
    paths = parse_cgroups(text)
    assert paths["memory"] == "/job/a:b"  # a colon in the path is part of it
    assert paths["cpu"] == paths["cpuacct"] == "/job"
    assert paths[UNIFIED] == "/user.slice"
    assert parse_cgroups(None) == {}


def test_mounts_are_read_with_their_escapes_and_without_optional_fields() -> None:
    text = "1 2 0:3 / /a\\040b/cg rw shared:1 master:2 - cgroup2 cgroup2 rw\n2 2 0:4 /x /c rw - cgroup cgroup rw,cpu\n"
    assert parse_mounts(text) == [
        Mount("/", "/a b/cg", frozenset({UNIFIED})),
        Mount("/x", "/c", frozenset({"rw", "cpu"})),
    ]


def test_the_mount_that_holds_the_path_is_taken() -> None:
    mounts = [Mount("/a", "/first", frozenset()), Mount("/b", "/second", frozenset())]
    assert placed("/b/c", mounts) == (mounts[1], PurePosixPath("c"))
    assert placed("/b", mounts) == (mounts[1], PurePosixPath())
    assert placed("/bc", mounts) == (mounts[0], PurePosixPath())


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """Give the file that puts a process into a cgroup of this machine with half a CPU; skip where none may be made."""
    for controller, limit, text in ((UNIFIED, "cpu.max", "50000 100000"), ("cpu", "cpu.cfs_quota_us", "50000")):
        for parent in folders_of(controller, Path("/"))[:1]:
            folder = parent / f"penstock-test-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                if (folder / limit).is_file():
                    (folder / limit).write_text(text)
                    yield folder / "cgroup.procs"
                    return
            finally:
                folder.rmdir()
    pytest.skip("no cgroup with a quota may be made here (root may, where /sys/fs/cgroup can be written)")


def test_a_real_quota_is_the_budget(half_a_cpu: Path) -> None:
    code = (
        f"import os; open({os.fspath(half_a_cpu)!r}, 'w').write(str(os.getpid()))\n"
        "from penstock._devices import cpu_budget; print(cpu_budget().threads, cpu_budget().cores, cpu_budget().why)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.startswith("1 1 cgroup quota of 0.5 CPUs; affinity to"), done.stderr
