"""torch models through `run`, `Session` and the command line: answers of a plain loop, refusals, resume."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import errors
from penstock._models import torch_choose
from penstock._models.normalise import normalised
from penstock._spec import find_spec

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]


def records(path: Path) -> dict[str, Any]:
    lines = path.read_text("utf-8").splitlines()
    return {record["id"]: record["output"] for record in map(json.loads, lines)}


@pytest.fixture
def some_photos(shared_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Give some_photos(n): a folder with the first n of the real photos, every 25th of all."""

    def make(n: int) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for path in sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[::25][:n]:
            if not (folder / path.name).exists():  # written again, it would be another file
                (folder / path.name).write_bytes(path.read_bytes())
        return folder

    return make


def plain_scores(module: Any, path: Path) -> Any:
    """Return what a plain torch program makes of a photo: one thread, one photo, no penstock but its decoder."""
    from penstock._preprocess import make, shrink_to

    spec = find_spec(None, preset="imagenet").input
    picture = make(spec)(penstock.decode(path.read_bytes(), shrink_to=shrink_to(spec)))
    with torch.no_grad():
        return module(torch.from_numpy(normalised(picture[None], spec, "float32")))[0].numpy()


def scores(output: dict[str, Any]) -> list[float]:
    return [entry["score"] for entry in sorted(output["top"], key=lambda entry: int(entry["index"]))]


@pytest.mark.parametrize("make", ["make", "make_remembering"])
def test_a_module_over_real_photos_is_a_plain_loop(
    nets: Any, some_photos: Callable[..., Path], tmp_path: Path, make: str
) -> None:
    folder, out = some_photos(16), tmp_path / "o.jsonl"
    report = penstock.run(folder, getattr(nets, make)(), preset="imagenet", out=out, threads=2)
    assert (report.done, report.failed) == (16, 0)
    assert ("why" in report.plan["settings"]) == (make == "make_remembering")
    if make == "make_remembering":  # one caller, or a copy for each
        copies = report.plan["settings"].get("copies", 1)
        assert report.plan["stages"].get("model") == (1 if copies == 1 else None)
    module = getattr(nets, make)()
    for name, output in records(out).items():
        np.testing.assert_allclose(scores(output), plain_scores(module, folder / name), rtol=1e-4, atol=1e-5)


def test_a_resumed_job_goes_on_with_the_stored_choice(
    nets: Any, some_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.jsonl"
    first = penstock.run(some_photos(4), nets.make(), preset="imagenet", out=out, threads=2)

    def never(*_: Any) -> Any:
        raise AssertionError("a choice was made again")

    monkeypatch.setattr(torch_choose, "choose_torch", never)
    second = penstock.run(some_photos(8), nets.make(), preset="imagenet", out=out, threads=2)
    assert (second.done, second.attempted) == (8, 4)
    kept = ("runtime", "version", "precision", "settings", "batch", "source")
    assert {name: second.plan[name] for name in kept} == {name: first.plan[name] for name in kept}
    with pytest.raises(errors.LedgerError, match=r"model\.weights"):
        penstock.run(some_photos(9), nets.SmallNet(), preset="imagenet", out=out)


def test_a_session_takes_tensors_and_pictures(nets: Any) -> None:
    items = [torch.full((3, 20, 20), value / 7) for value in range(7)]
    with penstock.Session(nets.make(), threads=2) as session:
        rows = [row["output"] for row in session.map(items)]
        assert session.plan["runtime"] == "torch"
    with torch.no_grad():
        np.testing.assert_allclose(np.stack(rows), nets.make()(torch.stack(items)).numpy(), atol=1e-5)


def test_a_module_over_photos_needs_a_spec(nets: Any, some_photos: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(errors.SpecError, match="nothing says how the model wants its pictures"):
        penstock.run(some_photos(1), nets.make(), out=tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl.penstock").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "bf16"}, 'dtype="bfloat16"'),
        ({"runtime": "openvino"}, "choose how an .onnx file is run"),
        ({"device": "tpu"}, 'give "auto", "cpu", "cuda"'),
    ],
)
def test_what_has_no_meaning_for_torch_is_refused(nets: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        penstock.Session(nets.make(), **options)


@pytest.mark.parametrize("model", ["gone.pt2", penstock.Torch("gone.bin", factory="torch_nets:make")])
def test_a_missing_file_refuses_to_start(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UsageError, match=rf"gone\.\w+ does not exist \(looked in {tmp_path}\)"):
        penstock.run([1], model, out="o.jsonl")
    assert list(tmp_path.iterdir()) == []


def penstock_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        # As the installed command does it: what the command line imports is not found in the folder by itself.
        [sys.executable, "-P", "-m", "penstock", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=folder,
        env=environment,
    )


def test_weights_and_factory_on_the_command_line(nets: Any, some_photos: Callable[..., Path], tmp_path: Path) -> None:
    photos = some_photos(3)
    (photos / "broken.jpg").write_bytes(b"no picture")
    nets.save_state(nets.make(), tmp_path / "weights.pt")
    (tmp_path / "mine.py").write_text(Path(nets.__file__).read_text("utf-8"), "utf-8")
    arguments = ["run", "photos", "--model", "weights.pt", "--factory", "mine:make", "--preset", "imagenet"]
    process = penstock_command(tmp_path, *arguments, "--out", "o.jsonl", "--json", "--batch", "1")
    assert process.returncode == 1, process.stderr
    assert json.loads(process.stdout)["done"] == 3
    path = min(photos.glob("*.jpg"))
    np.testing.assert_allclose(
        scores(records(tmp_path / "o.jsonl")[path.name]), plain_scores(nets.make(), path), rtol=1e-4, atol=1e-5
    )
    (photos / "broken.jpg").write_bytes(path.read_bytes())
    retried = penstock_command(tmp_path, "retry", "o.jsonl")
    assert retried.returncode == 0, retried.stderr
    assert "4 done, 0 failed" in retried.stdout


def test_a_wrong_factory_on_the_command_line_exits_2(nets: Any, tmp_path: Path) -> None:
    nets.save_state(nets.make(), tmp_path / "weights.pt")
    (tmp_path / "a.jpg").write_bytes(b"x")
    arguments = ["run", ".", "--model", "weights.pt", "--preset", "imagenet", "--out", "o.jsonl"]
    process = penstock_command(tmp_path, *arguments, "--factory", "nowhere:make")
    assert process.returncode == 2
    assert "the module 'nowhere' could not be imported" in process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "weights.pt"]


def test_the_plan_says_what_was_compiled_while_it_ran(
    nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", dynamic=False))
    items = list(np.random.default_rng(0).normal(size=(22, 3, 32, 32)).astype(np.float32))
    options: dict[str, Any] = {"out": tmp_path / "o.jsonl", "batch": 4}
    compiled = penstock.Torch(nets.make(), device="cpu", compile=True)
    report = penstock.run(items[:20], compiled, **options)
    assert "compiles_after_seal" not in report.plan
    report = penstock.run(items, compiled, **options)
    assert report.plan["compiles_after_seal"] == 1  # for the last two, whose size no check had seen
