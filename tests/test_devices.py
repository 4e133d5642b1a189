"""The budgets, on cgroup trees planted in a folder and on the machine itself."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from penstock import _devices
from penstock._devices import (
    MemoryUse,
    cpu_budget,
    cpu_name,
    cpu_quota,
    delayed_s,
    forget_memory_peak,
    memory_available,
    memory_budget,
    memory_use,
    parse_cfs,
    parse_cpu_max,
    parse_cpu_name,
    parse_memory_limit,
    parse_memory_use,
)

GIB = 1 << 30
HYBRID = """\
30 23 0:27 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw
31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw,relatime shared:11 - cgroup cgroup rw,memory
"""
"""Where the trees of these tests are mounted; layouts as others have them are in test_cgroups.py."""


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/mountinfo": HYBRID, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("200000 100000\n", 2.0), ("150000 100000", 1.5), ("50000 100000", 0.5), ("", None)],
)
def test_cpu_max(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


def test_cfs_quota() -> None:
    assert parse_cfs("-1\n", "100000\n") is None
    assert parse_cfs("400000\n", "100000\n") == 4.0
    assert parse_cfs(None, "100000") is None


def test_memory_limit() -> None:
    assert parse_memory_limit("max\n") is None
    assert parse_memory_limit("9223372036854771712\n") is None  # v1 for "no limit"
    assert parse_memory_limit("1073741824\n") == GIB
    assert parse_memory_limit(None) is None


def test_the_smallest_quota_of_all_ancestors_counts(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/cpu.max": "max 100000",
            "sys/fs/cgroup/a/cpu.max": "150000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
        },
    )
    assert cpu_quota(tmp_path) == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_the_budget_is_affinity_cut_by_quota_rounded_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert cpu_budget(tmp_path).threads == 8
    plant(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000"})
    budget = cpu_budget(tmp_path)
    assert budget.threads == 3
    assert "2.5 CPUs" in budget.why
    plant(tmp_path, {"sys/fs/cgroup/cpu.max": "10000 100000"})
    assert cpu_budget(tmp_path).threads == 1
    plant(tmp_path, {"sys/fs/cgroup/cpu.max": "6400000 100000"})
    assert cpu_budget(tmp_path).threads == 8


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_threads_of_one_core_are_told_apart_from_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight CPUs of four cores: n and n + 4 are one core."""
    for cpu in range(8):
        name = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        plant(tmp_path, {name: f"{cpu % 4},{cpu % 4 + 4}\n"})
    usable = set(range(8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable)
    budget = cpu_budget(tmp_path)
    assert (budget.threads, budget.cores) == (8, 4)
    assert "8 of" in budget.why
    assert budget.why.endswith("on 4 cores")
    assert [budget.inside(callers) for callers in (1, 2, 3, 4, 8)] == [4, 2, 1, 1, 1]
    usable = {0, 4, 1}  # both threads of one core, and one of another
    assert (cpu_budget(tmp_path).threads, cpu_budget(tmp_path).cores) == (3, 2)
    usable = {0, 1, 2}
    assert (cpu_budget(tmp_path).threads, cpu_budget(tmp_path).cores) == (3, 3)
    plant(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000"})
    assert (cpu_budget(tmp_path).threads, cpu_budget(tmp_path).cores) == (2, 2)
    usable = {0, 4}
    assert (cpu_budget(tmp_path).threads, cpu_budget(tmp_path).cores) == (2, 1)


def test_without_affinity_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (cpu_budget(tmp_path).threads, cpu_budget(tmp_path).cores) == (6, 6)


def test_the_memory_budget_is_the_smallest_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._devices._physical_bytes", lambda: 8 * GIB)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
    assert memory_budget(tmp_path) == 8 * GIB
    plant(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/job\n0::/x\n",
            "sys/fs/cgroup/x/memory.max": str(4 * GIB),
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(3 * GIB),
        },
    )
    assert memory_budget(tmp_path) == 3 * GIB
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (2 * GIB, unlimited[1]))
    assert memory_budget(tmp_path) == 2 * GIB


def test_on_this_machine() -> None:
    assert 1 <= cpu_budget().threads <= (os.cpu_count() or 1)
    assert memory_budget() > 1 << 20


def test_what_is_available_is_the_least_that_anything_leaves(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/cgroup": "0::/job\n"})
    assert memory_available(tmp_path) > 1 << 20  # nothing tells: physical memory
    plant(tmp_path, {"proc/meminfo": "MemTotal:  9 kB\nMemAvailable:    2048 kB\n"})
    assert memory_available(tmp_path) == 2 << 20
    plant(tmp_path, {"sys/fs/cgroup/job/memory.max": "1000000\n"})
    assert memory_available(tmp_path) == 2 << 20
    plant(tmp_path, {"sys/fs/cgroup/job/memory.current": "900000\n"})
    assert memory_available(tmp_path) == 100_000
    plant(tmp_path, {"sys/fs/cgroup/job/memory.stat": "anon 5\nactive_file 1000\ninactive_file 2000\n"})
    assert memory_available(tmp_path) == 103_000
    plant(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"})
    assert memory_available(tmp_path) == 103_000


def test_what_is_available_in_a_v1_cgroup(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/cgroup": "4:memory:/job\n"})
    plant(tmp_path, {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000\n"})
    plant(tmp_path, {"sys/fs/cgroup/memory/job/memory.usage_in_bytes": "2000000\n"})
    assert memory_available(tmp_path) == 0


def test_memory_of_a_process_is_read_off_its_status(tmp_path: Path) -> None:
    assert parse_memory_use("Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\nVmSwap:\t 0 kB\n") == (
        1 << 20,
        2 << 20,
    )
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "status").write_text("VmHWM:\t 2 kB\nVmRSS:\t 1 kB\n")
    assert memory_use(100, tmp_path) == MemoryUse(1024, 2048, 100)
    forget_memory_peak(tmp_path)
    assert (proc / "clear_refs").read_text() == "5"


def test_a_peak_is_seen_and_can_be_forgotten() -> None:
    filled = bytearray(b"x") * (64 << 20)
    before = memory_use(0)
    assert before.peak is not None
    assert before.peak >= len(filled)
    del filled
    forget_memory_peak()
    after = memory_use(0)
    assert after.peak is not None
    assert after.peak <= before.peak - (60 << 20)


def test_the_name_of_the_cpu(tmp_path: Path) -> None:
    text = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t\t: 9\n"
    assert parse_cpu_name(text) == "AMD EPYC (family 25, model 17)"
    assert parse_cpu_name("model name: X\n") == "X (family ?, model ?)"
    assert parse_cpu_name(None) == parse_cpu_name("CPU part: 0xd0c\n") == ""
    assert cpu_name(plant(tmp_path, {"proc/cpuinfo": text})) == "AMD EPYC (family 25, model 17)"
    assert cpu_name(tmp_path / "absent")


def test_how_long_a_thread_waited_for_a_cpu(tmp_path: Path) -> None:
    plant(
        tmp_path, {"proc/thread-self/schedstat": "9 1500000000 3\n", "proc/self/task/7/schedstat": "9 2000000000 3\n"}
    )
    assert (delayed_s(root=tmp_path), delayed_s(7, tmp_path), delayed_s(8, tmp_path)) == (1.5, 2.0, 0.0)


def test_memory_of_a_process_and_of_those_it_has_started(tmp_path: Path) -> None:
    for pid, resident in (("self", 8), ("12", 4)):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "status").write_text(f"VmHWM:\t 10 kB\nVmRSS:\t {resident} kB\n")
    task = tmp_path / "proc" / "self" / "task" / "1"
    task.mkdir(parents=True)
    (task / "children").write_text("12 13 ")  # the other one has ended since
    assert _devices.family_bytes(tmp_path) == 12 * 1024
    assert _devices.family_bytes() > 0


def test_a_thread_that_ends_while_it_is_looked_at_was_not_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> bytes:
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(os, "read", gone)
    assert _devices.delayed_s() == 0.0
