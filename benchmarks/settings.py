"""Are the rivals of folder.py set as well as can be? Their settings beside others, interleaved, on this machine.

python benchmarks/settings.py             # 5 rounds of 200 photos, about 25 minutes
python benchmarks/settings.py --quick     # 1 round of 50, writes nothing

Where another setting comes out ahead, it belongs into _rivals_folder.py before folder.py is run.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _measure import DATA, Round, fresh, interleaved, median, save, table
from _photos import Job
from _rivals_folder import VARIANTS

FOLDER = Path(__file__).resolve().with_name("folder.py")


def names(only: list[str] | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return each setting's name with its entry and what it sets."""
    found = {}
    for entry in only or VARIANTS:
        for settings in [{}, *VARIANTS[entry]]:
            said = ", ".join(f"{key} {value}" for key, value in settings.items())
            found[f"{entry}: {said or 'as it is'}"] = (entry, settings)
    return found


def measured(job: Job, wanted: dict[str, tuple[str, dict[str, Any]]], rounds: int) -> dict[str, list[Round]]:
    """Return the rounds of every setting."""
    for path in job.paths():
        path.read_bytes()  # the page cache is warm
    with tempfile.TemporaryDirectory() as folder:

        def one(name: str, _: int) -> Round:
            entry, settings = wanted[name]
            got = fresh(FOLDER, entry, asdict(job) | {"out": str(Path(folder) / "out.jsonl"), "settings": settings})
            return {key: got[key] for key in ("rate", "start_s", "rss_mib")}

        return interleaved(list(wanted), rounds, one)


def rows(taken: dict[str, list[Round]]) -> list[dict[str, Any]]:
    """Return a row for each setting, the entries together, the fastest first."""
    order = sorted(taken, key=lambda name: (name.partition(":")[0], -median([r["rate"] for r in taken[name]])))
    return [
        {
            "setting": name,
            "photos/s": f"{median([r['rate'] for r in taken[name]]):.1f}",
            "best": f"{max(r['rate'] for r in taken[name]):.1f}",
            "peak RSS MiB": f"{median([r['rss_mib'] for r in taken[name]]):.0f}",
        }
        for name in order
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 round of 50 photos; writes nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), help="entries to look at")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    rounds, limit = (1, 50) if given.quick else (given.rounds, 200)
    model = given.data / "models" / "mobilenet_v2_1.0_224_quant.onnx"
    job = Job(photos=str(given.data / "photos" / "flowers"), model=str(model), out="", limit=limit)
    taken = measured(job, names(given.only), rounds)
    if given.quick or given.only:
        print(table(rows(taken)))
    else:
        save(
            "settings",
            f"{limit} photos, {rounds} rounds; medians.",
            {"Settings": table(rows(taken))},
            {"rounds": taken},
        )


if __name__ == "__main__":
    main()
