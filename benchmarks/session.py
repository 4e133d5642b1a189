"""A model inside an application: what a request costs beside a bare queue, and what 64 callers get of the offline rate.

python benchmarks/session.py            # 7 interleaved rounds, about 10 minutes
python benchmarks/session.py --quick    # 1 short round, writes nothing

Latency: 1,000 requests a second to a model of 0 ms, at fixed times whatever the answers do (open loop), from the call
of `submit` to the result, and from the time the request was due. Throughput: 64 threads, each waiting for its result,
on 500 photos, beside `Session.map` over the same photos in the same session.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

from _measure import DATA, Round, fresh, interleaved, median, ratio, save, spread, table
from _rivals_session import Submit, bare_queue, litserve, session

SCRIPT = Path(__file__).resolve()
DOORS: dict[str, Callable[[], AbstractContextManager[Submit]]] = {
    "penstock": session,
    "bare queue": bare_queue,
    "LitServe": litserve,
}
RATE, CALLERS = 1000, 64
MOST_P99, LEAST_SHARE = 2.0, 0.9


# ---- latency


def latency(name: str, seconds: float) -> Round:
    """Send requests at fixed times and return the percentiles of their latencies in microseconds."""
    with DOORS[name]() as submit:
        open_loop(submit, RATE)  # a second to warm up
        called, due = open_loop(submit, int(RATE * seconds))
    return {
        f"{kind}_p{p}_us": quantile(times, p / 100) * 1e6
        for kind, times in (("call", called), ("due", due))
        for p in (50, 95, 99)
    }


def open_loop(submit: Submit, n: int) -> tuple[list[float], list[float]]:
    """Return seconds from the call, and from when it was due, to the result of `n` requests, one a millisecond."""
    called, ended = [0.0] * n, [0.0] * n
    left = threading.Semaphore(0)
    broken: list[BaseException | None] = []

    def over(k: int, future: Future[Any]) -> None:
        ended[k] = time.perf_counter()
        broken.append(future.exception())
        left.release()

    begun = time.perf_counter() + 0.01
    for k in range(n):
        if (wait_s := begun + k / RATE - time.perf_counter()) > 0:
            time.sleep(wait_s)
        called[k] = time.perf_counter()
        submit(str(k)).add_done_callback(lambda future, k=k: over(k, future))
    for _ in range(n):
        if not left.acquire(timeout=30):
            raise SystemExit("a request was not answered in 30 s")
    if any(broken):
        raise SystemExit(f"{n - broken.count(None)} of {n} requests failed: {next(filter(None, broken))}")
    return [e - c for e, c in zip(ended, called, strict=True)], [e - begun - k / RATE for k, e in enumerate(ended)]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile."""
    return sorted(values)[int(share * (len(values) - 1))]


# ---- throughput


def penstock_rates(paths: Sequence[str], model: str, passes: int) -> Round:
    """Return photos/s of `map` and of 64 callers, in turns on one session; their answers must be the same."""
    import penstock

    with penstock.Session(model, preset="inception", runtime="onnxruntime") as own:
        expected = tops(own.map(paths))
        seconds = {"map": 0.0, "submit": 0.0}
        for way in ("map", "submit") * passes:
            begun = time.perf_counter()
            found = list(own.map(paths)) if way == "map" else closed_loop(own.submit, paths)
            seconds[way] += time.perf_counter() - begun
            if tops(found) != expected:
                raise SystemExit(f"{way} gives other classes than the first map.")
        p99 = own.statistics().requests.p99_s or 0.0
    n = passes * len(paths)
    return {"map_per_s": n / seconds["map"], "per_s": n / seconds["submit"], "p99_ms": p99 * 1e3}


def tops(outputs: Iterable[Any]) -> list[int]:
    """Return the best class of each output."""
    return [output["top"][0]["index"] for output in outputs]


def litserve_rate(paths: Sequence[str], model: str, passes: int) -> Round:
    """Return photos/s of 64 callers of a LitServe server."""
    with litserve(model) as submit:
        closed_loop(submit, paths)
        begun = time.perf_counter()
        for _ in range(passes):
            closed_loop(submit, paths)
        return {"per_s": passes * len(paths) / (time.perf_counter() - begun)}


def closed_loop(submit: Submit, items: Sequence[str]) -> list[Any]:
    """Return the results of `items`, each asked for by one of 64 callers that waits for it."""
    results: list[Any] = [None] * len(items)
    numbers = count()

    def call() -> None:
        while (k := next(numbers)) < len(items):
            results[k] = submit(items[k]).result(60)

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return results


# ---- tables


def latency_table(taken: dict[str, list[Round]]) -> str:
    """Return percentiles in microseconds and the ratio of p99 to that of the bare queue."""
    bare = taken["bare queue"]
    rows = []
    for name, rounds in taken.items():
        row: dict[str, Any] = {"entry": name}
        for kind, said in (("call", "from the call"), ("due", "from when it was due")):
            figures = [median([r[f"{kind}_p{p}_us"] for r in rounds]) for p in (50, 95, 99)]
            row[f"µs {said}: p50, p95, p99"] = ", ".join(f"{figure:,.0f}" for figure in figures)
            row[f"p99 {said} / bare queue (95 %)"] = spread(p99_ratio(rounds, bare, kind))
        rows.append(row)
    return table(rows)


def p99_ratio(rounds: Sequence[Round], bare: Sequence[Round], kind: str) -> tuple[float, float, float]:
    """Return the ratio of the p99 latencies."""
    return ratio([r[f"{kind}_p99_us"] for r in rounds], [r[f"{kind}_p99_us"] for r in bare])


def rate_table(taken: dict[str, list[Round]]) -> str:
    """Return photos a second and the share of the offline rate."""
    offline = [r["map_per_s"] for r in taken["penstock"]]
    rows = [{"entry": "penstock, map (offline)", "photos/s": f"{median(offline):.1f}", "share (95 %)": "1"}]
    for name, rounds in taken.items():
        rates = [r["per_s"] for r in rounds]
        share = spread(ratio(rates, offline))
        rows.append({"entry": f"{name}, 64 callers", "photos/s": f"{median(rates):.1f}", "share (95 %)": share})
    return table(rows)


def verdict(delays: dict[str, list[Round]], rates: dict[str, list[Round]]) -> str:
    """Return whether the goals are reached; undecided where the interval of the ratio holds the goal."""
    said = []
    for kind in ("call", "due"):
        times = p99_ratio(delays["penstock"], delays["bare queue"], kind)
        kept = "reached" if times[2] <= MOST_P99 else "MISSED" if times[1] > MOST_P99 else "UNDECIDED"
        said.append(f"- p99 from {kind}: {spread(times)} of the bare queue's; goal at most {MOST_P99} {kept}")
    own = rates["penstock"]
    share = ratio([r["per_s"] for r in own], [r["map_per_s"] for r in own])
    kept = "reached" if share[1] >= LEAST_SHARE else "MISSED" if share[2] < LEAST_SHARE else "UNDECIDED"
    p99 = median([r["p99_ms"] for r in own])
    said.append(f"- 64 callers: {spread(share)} of the offline rate; goal {LEAST_SHARE} {kept}; p99 {p99:.0f} ms")
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-litserve", action="store_true", help="where it is not installed; writes nothing")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        kind, name = given.round.split(":")
        play = latency if kind == "latency" else penstock_rates if name == "penstock" else litserve_rate
        arguments = {"name": name, **given.arguments} if kind == "latency" else given.arguments
        print(json.dumps(play(**arguments)))
        return
    names = [name for name in DOORS if not (given.without_litserve and name == "LitServe")]
    rounds, seconds, passes = (1, 3, 1) if given.quick else (given.rounds, 10, 3)
    delays = interleaved(names, rounds, lambda name, _: fresh(SCRIPT, f"latency:{name}", {"seconds": seconds}))
    photos = sorted(str(path) for path in (given.data / "photos" / "flowers").rglob("*.jpg"))
    model = str(given.data / "models" / "mobilenet_v2_1.0_224_quant.onnx")
    job = {"paths": photos[: 100 if given.quick else None], "model": model, "passes": passes}
    servers = [name for name in names if name != "bare queue"]
    rates = interleaved(servers, rounds, lambda name, _: fresh(SCRIPT, f"rate:{name}", job))
    tables = {
        f"{RATE:,} requests a second to a model of 0 ms, {seconds} s, {rounds} rounds": latency_table(delays),
        f"{CALLERS} callers, {len(job['paths'])} photos, MobileNetV2 on ONNX Runtime": rate_table(rates),
        "Goals": verdict(delays, rates),
    }
    if given.quick or given.without_litserve:
        print("\n\n".join(tables.values()))
    else:
        save("session", (__doc__ or "").partition("\n\n")[0], tables, {"latency": delays, "rates": rates})


if __name__ == "__main__":
    main()
