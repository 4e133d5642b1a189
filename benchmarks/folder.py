"""A folder of photos to JSON lines with MobileNetV2, end to end: penstock beside its rivals and the machine's limit.

python benchmarks/folder.py             # 12 interleaved rounds of 500 photos in f32, about 20 minutes
python benchmarks/folder.py --bf16      # the same for precision="bf16", with its agreement to f32
python benchmarks/folder.py --quick     # 2 rounds of 100 photos, writes nothing

The clock runs from the first photo to the last commit; loading, compiling and penstock's trial of the runtimes are
shown beside, as start-up. Every round of every entry is a process of its own; the files are in the page cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from _limit import limit
from _measure import DATA, Round, fresh, interleaved, median, peak_rss_mib, ratio, save, spread, table
from _photos import Job, top_indices
from _rivals_folder import BESIDE, RIVALS, Entry, Run

SCRIPT = Path(__file__).resolve()
OWN = "penstock"
FLOORS = {"fused threads": 0.95, "spdl": 0.85, "AsyncInferQueue": 0.85}
"""A rival below this share of the limit is set wrongly, and so is what is said against it."""
LEAST_AGREEMENT = {"f32": 0.99, "bf16": 0.93}
"""Share of photos whose best class must be the reference's: the plain loop's for the rivals, for ours our own in f32 on
ONNX Runtime, because it resizes as Pillow does and the rivals do not."""


SAME_WORK = {
    "input": {
        "resize": "short_side",
        "short_side": "size/0.875",
        "crop": "center",
        "antialias": False,
        "mean": 128,
        "std": 128,
    },
    "output": {"task": "classify", "activation": "none"},
}
"""The preset "inception" without antialiasing: all entries resize alike, with OpenCV's bilinear filter."""


@contextmanager
def penstock(job: Job) -> Iterator[Run]:
    """Ours with nothing set but the spec and the precision."""
    import penstock

    def run() -> float:
        report = penstock.run(
            job.photos,
            job.model,
            out=job.out,
            spec=SAME_WORK,
            precision=job.precision,
            runtime=job.runtime,
            limit=job.limit,
        )
        if report.done != len(job.paths()):
            raise SystemExit(f"penstock: {report}\n{report.failures[:3]}")
        PLAN.update({key: str(value) for key, value in report.plan.items()})
        return report.seconds

    yield run


PLAN: dict[str, str] = {}
"""What penstock chose in this process."""

ENTRIES: dict[str, Entry] = {
    OWN: penstock,
    "penstock, ONNX Runtime by hand": penstock,
    "penstock, OpenVINO by hand": penstock,
    **RIVALS,
    **BESIDE,
}
HAND_SET = {"penstock, ONNX Runtime by hand": "onnxruntime", "penstock, OpenVINO by hand": "openvino"}
BF16 = (OWN, "fused threads, OpenVINO", "AsyncInferQueue")
"""What can be asked for bfloat16: OpenVINO alone has it on a CPU."""


def play(name: str, job: Job) -> Round:
    """Run one entry; return its rate, start-up, memory and answers."""
    if name == "limit":
        return dict(limit(job))
    begun = time.perf_counter()
    with ENTRIES[name](job) as run:
        loaded = time.perf_counter()
        own_clock = run()
        ended = time.perf_counter()
        memory = peak_rss_mib()
    seconds = own_clock or ended - loaded
    answers = top_indices(Path(job.out))
    if len(answers) != len(job.paths()):
        raise SystemExit(f"{name}: {len(answers)} of {len(job.paths())} photos have an answer.")
    # An entry with a clock of its own has loaded inside `run`: what lies outside its clock is start-up.
    start = ended - begun - seconds
    return {"rate": len(answers) / seconds, "start_s": start, **memory, "answers": answers, "plan": dict(PLAN)}


def measured(job: Job, names: list[str], rounds: int, seed: int) -> dict[str, list[Round]]:
    """Return the rounds; answers become the share that agrees with the reference's."""
    for path in job.paths():
        path.read_bytes()  # the page cache is warm
    with tempfile.TemporaryDirectory() as folder:
        plain = replace(job, precision="f32", runtime="onnxruntime")
        references = {
            name: _fresh(plain, name, Path(folder) / f"{name}.jsonl")["answers"]
            for name in (OWN, "plain loop, defaults")
        }

        def one(name: str, number: int) -> Round:
            precision = "f32" if name == F32 else job.precision
            asked = replace(job, precision=precision, runtime=HAND_SET.get(name, "auto"))
            got = _fresh(asked, OWN if name == F32 else name, Path(folder) / f"{number}-{names.index(name)}.jsonl")
            reference = references[OWN if name.startswith(OWN) else "plain loop, defaults"]
            return _checked(name, got, reference, LEAST_AGREEMENT[precision])

        return interleaved(names, rounds, one, seed)


F32 = "penstock, f32"
"""In the bf16 part: ours at f32."""


def _fresh(job: Job, name: str, out: Path) -> Round:
    return fresh(SCRIPT, name, {**asdict(job), "out": str(out)})


def _checked(name: str, got: Round, reference: dict[str, int], least: float) -> Round:
    if (answers := got.pop("answers", None)) is None:
        return got
    if answers.keys() != reference.keys():
        raise SystemExit(f"{name}: other photos than the reference: {sorted(answers.keys() ^ reference.keys())[:3]}")
    got["agreement"] = sum(answers[key] == reference[key] for key in reference) / len(reference)
    if got["agreement"] < least:
        raise SystemExit(f"{name}: only {got['agreement']:.1%} of its answers are the reference's.")
    return got


def rates(taken: dict[str, list[Round]], name: str) -> list[float]:
    """Return the rates of an entry, round by round."""
    return [round_["rate"] for round_ in taken[name]]


def entries_table(taken: dict[str, list[Round]]) -> str:
    """Return a row for each entry, the fastest first."""
    rows: list[dict[str, Any]] = []
    for name in sorted((n for n in taken if n != "limit"), key=lambda n: -median(rates(taken, n))):
        rounds = taken[name]
        rows.append(
            {
                "entry": name,
                "photos/s": f"{median(rates(taken, name)):.1f}",
                "share of the limit (95 %)": spread(ratio(rates(taken, name), rates(taken, "limit"))),
                "penstock / it (95 %)": spread(ratio(rates(taken, OWN), rates(taken, name))) if OWN in taken else "",
                "start-up s": f"{median([r['start_s'] for r in rounds]):.1f}",
                "peak RSS MiB": f"{median([r['rss_mib'] for r in rounds]):.0f}",
                "top-1 as the reference": f"{min(r['agreement'] for r in rounds):.1%}",
            }
        )
    return table(rows)


def findings(taken: dict[str, list[Round]]) -> str:
    """Return what the issue asks: the limit, the best rival, `auto` beside the better runtime, mis-set rivals."""
    keys = [key for key in taken["limit"][0] if key != "rate"]
    parts = ", ".join(f"{key} {median([r[key] for r in taken['limit']]):.0f}" for key in keys)
    said = [f"- limit {median(rates(taken, 'limit')):.1f} photos/s (alone on all cores: {parts})"]
    rivals = [name for name in taken if name in RIVALS]
    if OWN in taken and rivals:
        best = max(rivals, key=lambda name: median(rates(taken, name)))
        said.append(
            f"- penstock / best rival ({best}): {spread(ratio(rates(taken, OWN), rates(taken, best)))}; goal 1.00"
        )
        said.append(f"- penstock / limit: {spread(ratio(rates(taken, OWN), rates(taken, 'limit')))}; goal 0.97 reached")
        said.append(f"- penstock chose: {_choices(taken[OWN])}")
    by_hand = [name for name in HAND_SET if name in taken]
    if OWN in taken and by_hand:
        better = max(by_hand, key=lambda name: median(rates(taken, name)))
        said.append(f"- auto / {better}: {spread(ratio(rates(taken, OWN), rates(taken, better)))}; goal 0.98")
    if F32 in taken:
        said.append(f"- bf16 / f32: {spread(ratio(rates(taken, OWN), rates(taken, F32)))}; goal 1.3")
    for start, floor in FLOORS.items():
        shares = [ratio(rates(taken, name), rates(taken, "limit"))[0] for name in taken if name.startswith(start)]
        if shares and max(shares) < floor:
            said.append(
                f"- MIS-SET: {start} at {max(shares):.3f} of the limit, under {floor}: its figures do not count"
            )
    return "\n".join(said)


def _choices(rounds: list[Round]) -> str:
    keys = ("runtime", "settings", "batch", "threads", "stages")
    said = ["; ".join(f"{key} {round_['plan'].get(key)}" for key in keys) for round_ in rounds]
    counts = sorted(((said.count(choice), choice) for choice in set(said)), reverse=True)
    return f"{' | '.join(f'{n} x {choice}' for n, choice in counts)}; agreement {rounds[-1]['plan'].get('agreement')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 100 photos; writes nothing")
    parser.add_argument("--bf16", action="store_true", help="the part about precision='bf16'")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the entries within the rounds")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", help="entries to run")
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        with contextlib.redirect_stdout(None):  # libraries that print must not get into the answer
            got = play(given.round, Job(**given.arguments))
        print(json.dumps(got))
        return
    rounds = 2 if given.quick else given.rounds
    job = Job(
        photos=str(given.data / "photos" / "flowers"),
        model=str(given.data / "models" / "mobilenet_v2_1.0_224_quant.onnx"),
        out="",
        precision="bf16" if given.bf16 else "f32",
        limit=100 if given.quick else None,
    )
    names = [*BF16, F32] if given.bf16 else list(ENTRIES)
    taken = measured(job, ["limit", *(given.only or names)], rounds, given.seed)
    tables = {"What it shows": findings(taken), "Entries": entries_table(taken)}
    said = (
        f"{len(job.paths())} photos to JSON lines, MobileNetV2, {job.precision}; {rounds} interleaved rounds; medians."
    )
    if given.quick or given.only:
        print("\n\n".join([said, *tables.values()]))
    else:
        save("folder-bf16" if given.bf16 else "folder", said, tables, {"rounds": taken})


if __name__ == "__main__":
    main()
