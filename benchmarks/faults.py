"""What engines with worker processes lose when one item goes wrong: items, the run, processes and shared memory.

python benchmarks/faults.py                       # every fault put to every engine, about 20 minutes
python benchmarks/faults.py --only penstock grain # some of them; writes nothing

One item of 300 raises, is killed, ends its process or never returns; in the last fault the parent is killed. A run is
given 60 s. "lost": items other than the culprit that did not come out.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _measure import Round, save, table
from _rivals_faults import CULPRIT, ENTRIES, FAULTS, ITEMS

SCRIPT = Path(__file__).with_name("_rivals_faults.py")
LIMIT_S = 60.0
GONE_S = 5.0
"""How long processes may outlive their parent."""
MARK = "PENSTOCK_FAULTS_RUN"
"""Processes of a run are known by this in their environment, whoever their parent is by now."""
FOLDERS = re.compile(r'"/[^"\n]*/([^/"\n]+)')
"""Where a file of a traceback lies on this machine: its name alone is kept."""


def play(entry: str, fault: str) -> Round:
    """Put one fault to one engine and return what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        delivered, said = Path(folder) / "delivered", Path(folder) / "said"
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        segments = shared_memory()
        begun = time.monotonic()
        with said.open("w") as stream:
            child = subprocess.Popen(
                [sys.executable, str(SCRIPT), entry, fault, str(delivered)],
                env=os.environ | {MARK: mark},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            code = ended(child)
        seconds = time.monotonic() - begun
        left = outliving(mark) if code is not None else []
        found = verdict(fault, code, delivered, said)
        found |= {"seconds": seconds, "processes_left": len(left), "shm_left": len(shared_memory() - segments)}
        kill_all(mark)
        for name in shared_memory() - segments:
            (Path("/dev/shm") / name).unlink(missing_ok=True)
    return found


def ended(child: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code, None where the run had to be ended."""
    try:
        return child.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(LIMIT_S)
        return None


def verdict(fault: str, code: int | None, delivered: Path, said: Path) -> Round:
    """Return what came out and what was said of the culprit."""
    lines = delivered.read_text().split() if delivered.exists() else []
    items = [int(line) for line in lines]
    text = said.read_text(errors="replace")
    expected = set(range(ITEMS)) - {CULPRIT}
    killed = fault == "parent killed"
    return {
        "hangs": code is None,
        "lost": None if killed else len(expected - set(items)),
        "twice": len(items) - len(set(items)),
        "named": None if killed else bool(re.search(rf"\b{CULPRIT}\b", text)),
        "said": FOLDERS.sub(r'"\1', text[-2000:]),
    }


def outliving(mark: str) -> list[int]:
    """Return the processes of a run that are there for longer than they may be, after their parent's end."""
    deadline = time.monotonic() + GONE_S
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def processes(mark: str) -> list[int]:
    """Return the living processes of a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes() and state(path.parent) != "Z":
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return found


def state(process: Path) -> str:
    """Return the letter of a process's state; Z is one that has ended and was not waited for."""
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def kill_all(mark: str) -> None:
    """End what is left of a run."""
    for pid in processes(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def shared_memory() -> set[str]:
    """Return the names in /dev/shm."""
    folder = Path("/dev/shm")
    return set(os.listdir(folder)) if folder.is_dir() else set()


def row(entry: str, fault: str, found: Round) -> dict[str, Any]:
    """Return a line of the table."""
    left = f"{found['processes_left']} processes, {found['shm_left']} segments"
    return {
        "fault": fault,
        "engine": entry,
        "ends": "hangs" if found["hangs"] else f"after {found['seconds']:.1f} s",
        "items lost": "-" if found["lost"] is None else found["lost"],
        "twice": found["twice"],
        "culprit named": "-" if found["named"] is None else "yes" if found["named"] else "no",
        "left behind": "nothing" if left == "0 processes, 0 segments" else left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="engines, or faults, to run; writes nothing")
    given = parser.parse_args()
    wanted = set(given.only or [])
    entries = [name for name in ENTRIES if not wanted & set(ENTRIES) or name in wanted]
    faults = [name for name in FAULTS if not wanted & set(FAULTS) or name in wanted]
    taken = {fault: {entry: play(entry, fault) for entry in entries} for fault in faults}
    rows = table([row(entry, fault, found) for fault, by_entry in taken.items() for entry, found in by_entry.items()])
    if wanted:
        print(rows)
        print("\n".join(f"--- {e}, {f}\n{r['said']}" for f, by in taken.items() for e, r in by.items()))
        return
    said = f"One item of {ITEMS} (2 ms each, 2 worker processes) goes wrong; a run is given {LIMIT_S:.0f} s."
    save("faults", said, {"What became of it": rows}, {"runs": taken})


if __name__ == "__main__":
    main()
