"""Three models over the same photos: read and decoded once, beside three runs one after the other, and the limit.

python benchmarks/several.py            # 7 interleaved rounds of 500 photos, about 4 minutes
python benchmarks/several.py --quick    # 2 rounds of 60, writes nothing

The limit = 1 / (1/decode + 1/m1 + 1/m2 + 1/m3), each alone on all cores in the same round: decoding is reading the file
and making RGB pixels of it; a model's part is resizing, the model, and picking its five best classes. Every round of
every entry is a process of its own; files are in the page cache; the clock runs from the first item to the last commit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _limit import rate_of
from _measure import DATA, Round, fresh, interleaved, median, peak_rss_mib, ratio, save, spread, table
from _photos import Array, line
from _runtimes import ort_options
from folder import SAME_WORK

SCRIPT = Path(__file__).resolve()
FILES = {
    "mobilenet_v2": ("mobilenet_v2_1.0_224_quant.onnx", 224),
    "flowers5": ("flowers5_mobilenet_v2_head.onnx", 224),
    "mobilenet_v1": ("mobilenet_v1_0.75_192_quant.onnx", 192),
}
ONE, THREE, LIMIT = "penstock, three models in one run", "penstock, three runs", "limit"


def penstock_run(data: Path, model: Any, out: Path, limit: int | None) -> Any:
    """Return the report of a run that has to do every photo."""
    import penstock

    photos = data / "photos" / "flowers"
    report = penstock.run(photos, model, out=out, spec=SAME_WORK, runtime="onnxruntime", limit=limit)
    if report.done != (limit or 500):
        raise SystemExit(f"{model}: {report}\n{report.failures[:3]}")
    return report


def one_run(data: Path, folder: Path, limit: int | None) -> Round:
    """All models in one run."""
    models = {name: data / "models" / file for name, (file, _) in FILES.items()}
    report = penstock_run(data, models, folder / "o.jsonl", limit)
    decoded = sum(step.items for step in report.stages if step.name == "decode")
    if decoded != report.done:
        raise SystemExit(f"{decoded} decodes of {report.done} photos.")
    return {"seconds": report.seconds, "rate": report.rate, "decodes": decoded, **peak_rss_mib()}


def three_runs(data: Path, folder: Path, limit: int | None) -> Round:
    """One run after the other."""
    files = [data / "models" / file for file, _ in FILES.values()]
    reports = [penstock_run(data, file, folder / f"{file.stem}.jsonl", limit) for file in files]
    seconds = sum(report.seconds for report in reports)
    return {"seconds": seconds, "rate": reports[0].done / seconds, **peak_rss_mib()}


def limit_of(data: Path, _: Path, limit: int | None) -> Round:
    """Each part alone on all cores, by hand-written threads."""
    paths = sorted((data / "photos" / "flowers").rglob("*.jpg"))[:limit]
    rates = {"decode": rate_of(_decoded, paths)}
    pictures = [_decoded(path) for path in paths]
    for name, (file, side) in FILES.items():
        rates[name] = rate_of(_model(data / "models" / file, side), pictures)
    return {**rates, "rate": 1 / sum(1 / rate for rate in rates.values())}


def _decoded(path: Path) -> Array:
    import simplejpeg

    pixels: Array = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    return pixels


def _model(file: Path, side: int) -> Callable[[Array], str]:
    import cv2
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), ort_options(), providers=["CPUExecutionProvider"])
    name, short = session.get_inputs()[0].name, round(side / 0.875)

    def run(image: Array) -> str:
        height, width = image.shape[:2]
        scale = short / min(height, width)
        scaled = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
        top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
        values = np.empty((1, 3, side, side), np.float32)
        for plane, channel in zip(values[0], cv2.split(scaled[top : top + side, left : left + side]), strict=True):
            np.subtract(channel, np.float32(128), out=plane, dtype=np.float32)
        values *= np.float32(1 / 128)
        row = session.run(None, {name: values})[0][0]
        return line("x", row) if len(row) > 5 else json.dumps(row.tolist())

    return run


ENTRIES = {ONE: one_run, THREE: three_runs, LIMIT: limit_of}


def findings(taken: dict[str, list[Round]]) -> str:
    """Return what the issue asks."""
    rates = {name: [r["rate"] for r in rounds] for name, rounds in taken.items()}
    parts = ", ".join(f"{key} {median([r[key] for r in taken[LIMIT]]):.0f}" for key in ("decode", *FILES))
    return "\n".join(
        [
            f"- limit {median(rates[LIMIT]):.1f} photos/s (alone on all cores: {parts})",
            f"- one run / limit: {spread(ratio(rates[ONE], rates[LIMIT]))}; goal 0.95",
            f"- one run / three runs: {spread(ratio(rates[ONE], rates[THREE]))}",
            f"- photos decoded in one run: {taken[ONE][-1]['decodes']}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 60 photos; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
            got = ENTRIES[given.round](Path(given.arguments["data"]), Path(folder), given.arguments["limit"])
        print(json.dumps(got))
        return
    limit = 60 if given.quick else None
    arguments = {"data": str(given.data), "limit": limit}
    rounds = 2 if given.quick else given.rounds
    taken = interleaved(list(ENTRIES), rounds, lambda name, _: fresh(SCRIPT, name, arguments))
    rows = [
        {
            "entry": name,
            "photos/s": f"{median([r['rate'] for r in taken[name]]):.1f}",
            "seconds for all": f"{median([r['seconds'] for r in taken[name]]):.2f}",
            "peak RSS MiB": f"{median([r['rss_mib'] for r in taken[name]]):.0f}",
        }
        for name in (ONE, THREE)
    ]
    tables = {"What it shows": findings(taken), "Entries": table(rows)}
    said = f"{limit or 500} photos, three models on ONNX Runtime, JSON lines; {rounds} interleaved rounds; medians."
    if given.quick:
        print("\n\n".join([said, *tables.values()]))
    else:
        save("several", said, tables, {"rounds": taken})


if __name__ == "__main__":
    main()
