"""What this process may use of the machine: CPU threads (affinity, cgroup quota) and memory. Parsing is pure."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock._cgroups import UNIFIED, folders_of, read

_NO_LIMIT_BYTES = 1 << 60  # cgroup v1 writes "no limit" as a page-rounded 2**63, larger than any real memory


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """How many threads may compute at once, and what says so; `cores`: how many of them on a core of their own.

    Threads that share the work are as many as `threads`: decoding beside a model gains from the second thread of a
    core. Inside a call of a model or of BLAS there are no more than `cores`: products of matrices keep a core's units
    busy with one thread, which is why ONNX Runtime, OpenVINO (one stream), torch and MKL count cores by themselves too.
    """

    threads: int
    cores: int
    why: str

    def inside(self, callers: int) -> int:
        """Return the threads that each of `callers` calls at once may have inside."""
        return max(1, self.cores // callers)


def cpu_budget(root: Path = Path("/")) -> CpuBudget:
    """Return the threads this process may keep busy: its CPU affinity, cut to its cgroup's quota (rounded up).

    `root` is where `proc` and `sys` are looked up. Source of the quota: the kernel's cgroup-v2.rst (`cpu.max`) and
    sched-bwc.rst (`cpu.cfs_quota_us`); every ancestor's limit holds, so the smallest one counts. Weights (cpu.weight,
    cpu.shares: Kubernetes' requests) are none. Of the cores: the kernel's cputopology.rst.
    """
    usable, said = _usable_cpus()
    cores = len({_siblings(root, cpu) for cpu in usable})
    if cores < len(usable):
        said += f" on {cores} cores"
    quota = cpu_quota(root)
    if quota is None or quota >= len(usable):
        return CpuBudget(len(usable), cores, said)
    threads = max(1, math.ceil(quota))
    return CpuBudget(threads, min(threads, cores), f"cgroup quota of {quota:g} CPUs; {said}")


def cpu_name(root: Path = Path("/")) -> str:
    """Return what tells this machine's CPU from others: its name, family and model; elsewhere than on Linux its kind.

    A hypervisor may hide the name; family and model still tell the generation.
    """
    return parse_cpu_name(read(root / "proc/cpuinfo")) or platform.processor() or platform.machine()


def memory_budget(root: Path = Path("/")) -> int:
    """Return the bytes this process may use: the smallest of physical memory, its cgroup's limit and RLIMIT_AS."""
    limits = [_physical_bytes(), *_cgroup_memory_limits(root)]
    if (address_space := _address_space_bytes()) is not None:
        limits.append(address_space)
    return min(limits)


def memory_available(root: Path = Path("/")) -> int:
    """Return the bytes this process can still get: of physical memory, and of its cgroups. Everything, where none tell.

    Source: the kernel's proc.rst (`MemAvailable`), cgroup-v2.rst and memory.rst (the bytes in use, less the file pages
    of `memory.stat`, which are given up when memory is wanted).
    """
    left = [_physical_bytes()]
    if (available := parse_available(read(root / "proc/meminfo"))) is not None:
        left.append(available)
    for folder in folders_of(UNIFIED, root):
        left.append(_left(folder, "memory.max", "memory.current"))
    for folder in folders_of("memory", root):
        left.append(_left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    return max(0, min(left))


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes in use now, at most since the peak was last forgotten (None: not known here), and how many there may be."""

    resident: int
    peak: int | None
    limit: int


def memory_use(limit: int, root: Path = Path("/")) -> MemoryUse:
    """Return what this process holds of `limit` bytes of memory (VmRSS, VmHWM; proc(5)); elsewhere its peak alone."""
    text = read(root / "proc/self/status")
    if text is None:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return MemoryUse(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, None, limit)
    resident, peak = parse_memory_use(text)
    return MemoryUse(resident, peak, limit)


def family_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that this process and the processes it has started hold; 0 where nobody tells (proc(5))."""
    tasks = (root / "proc/self/task").glob("*/children")
    pids = ["self", *(pid for task in tasks for pid in (read(task) or "").split())]
    texts = (read(root / f"proc/{pid}/status") for pid in pids)
    return sum(parse_memory_use(text)[0] for text in texts if text is not None and "VmHWM:" in text)


def parse_memory_use(text: str) -> tuple[int, int]:
    """Return the bytes resident now and at most, of a `/proc/PID/status`."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) * 1024, int(lines["VmHWM"].split()[0]) * 1024


def forget_memory_peak(root: Path = Path("/")) -> None:
    """Let the peak begin anew at what is resident now (proc(5), clear_refs 5); where that is refused, it goes on.

    What the allocator keeps without need is given back first (malloc_trim(3)): later growth would hide in it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    with suppress(OSError):
        (root / "proc/self/clear_refs").write_text("5")


def delayed_s(thread: int | None = None, root: str | Path = "") -> float:
    """Return for how long a thread (by its native id; None: the calling one) was ready to run and got no CPU.

    Other threads had them, of this process or of others. 0.0 where nobody tells. Source: the kernel's sched-stats.rst,
    the second number of a `schedstat`.
    """
    whose = "thread-self" if thread is None else f"self/task/{thread}"
    try:  # without a Path and a file object, which take four times as long: runs ask this 50 times a second
        file = os.open(f"{root}/proc/{whose}/schedstat", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return 0.0
    try:
        text = os.read(file, 128)
    except ProcessLookupError:  # it has ended since
        return 0.0
    finally:
        os.close(file)
    return int(text.split()[1]) / 1e9 if text else 0.0


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the smallest CPU quota (in CPUs) of this process's cgroup and its ancestors, or None without one."""
    quotas: list[float | None] = []
    for folder in folders_of(UNIFIED, root):
        quotas.append(parse_cpu_max(read(folder / "cpu.max")))
    for folder in folders_of("cpu", root):
        quotas.append(parse_cfs(read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")))
    return min((quota for quota in quotas if quota is not None), default=None)


def parse_cpu_max(text: str | None) -> float | None:
    """Return the CPUs that a v2 `cpu.max` ("200000 100000") allows, or None for "max" or no such file."""
    if not text or text.split()[0] == "max":
        return None
    quota_us, period_us = text.split()[:2]
    return int(quota_us) / int(period_us)


def parse_cfs(quota_text: str | None, period_text: str | None) -> float | None:
    """Return the CPUs that a v1 quota and period (microseconds) allow, or None for -1 or no such files."""
    if not quota_text or not period_text or int(quota_text) <= 0:
        return None
    return int(quota_text) / int(period_text)


def parse_cpu_name(text: str | None) -> str:
    """Return `AMD EPYC (family 25, model 17)` of a `/proc/cpuinfo`, or "" where it has no name."""
    pairs = (line.partition(":") for line in reversed((text or "").splitlines()))
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in facts:
        return ""
    return f"{facts['model name']} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def parse_memory_limit(text: str | None) -> int | None:
    """Return the bytes of a v2 `memory.max` or v1 `memory.limit_in_bytes`, or None where there is no limit."""
    if not text or text.strip() == "max" or int(text) >= _NO_LIMIT_BYTES:
        return None
    return int(text)


def parse_available(text: str | None) -> int | None:
    """Return the bytes that `/proc/meminfo` says are available, or None where it does not."""
    lines = [line for line in (text or "").splitlines() if line.startswith("MemAvailable:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def parse_reclaimable(text: str | None) -> int:
    """Return the bytes of file pages in a `memory.stat`: what a cgroup uses and can give up."""
    counts = dict(line.split() for line in (text or "").splitlines())
    return int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))


def _usable_cpus() -> tuple[set[int], str]:
    if sys.platform != "linux":  # macOS has no affinity to ask for
        cpus = os.cpu_count() or 1
        return set(range(cpus)), f"{cpus} CPUs of the machine"
    usable = os.sched_getaffinity(0)
    return usable, f"affinity to {len(usable)} of {os.cpu_count()} CPUs"


def _siblings(root: Path, cpu: int) -> str:
    """Return the CPUs of the same core, as the kernel lists them; the CPU alone where it does not."""
    return read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _physical_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _address_space_bytes() -> int | None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _cgroup_memory_limits(root: Path) -> list[int]:
    texts = [read(folder / "memory.max") for folder in folders_of(UNIFIED, root)]
    texts += [read(folder / "memory.limit_in_bytes") for folder in folders_of("memory", root)]
    return [limit for text in texts if (limit := parse_memory_limit(text)) is not None]


def _left(folder: Path, limit_name: str, used_name: str) -> int:
    """Return the bytes that one cgroup can still get."""
    limit, used = parse_memory_limit(read(folder / limit_name)), read(folder / used_name)
    if limit is None or used is None:
        return _NO_LIMIT_BYTES
    return limit - int(used) + parse_reclaimable(read(folder / "memory.stat"))
