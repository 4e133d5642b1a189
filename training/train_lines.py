"""Train one of the two text-line recognisers of the demo and write its ONNX, TOML and alphabet files.

    python training/train_lines.py --model a
    python training/train_lines.py --model b

README.md beside this file has the commands and the figures of the shipped models.
Needs torch, onnx, onnxruntime, numpy, Pillow and an installed penstock. The lines are rendered by the demo's own
renderer with other seeds. A run ends after `--steps` steps or `--minutes` minutes, whichever comes first, and the
learning rate follows the nearer of the two ends. A run with time to spare gives the same model each time on the same
machine with the same number of workers.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from penstock._demo import render

MODELS = Path(render.__file__).parent / "models"
TRAIN_SEED, SEEN_SEED, UNSEEN_SEED = 1_000, 2_000, 3_000
BLANK = 0
PEAK_RATE = {"a": 3e-3, "b": 3e-3}
STEPS = {"a": 4_500, "b": 5_000}

TOML = """\
# Text-line recogniser {name} of the demo, trained by training/train_lines.py.
[input]
keep_aspect_height = 32     # height fixed, width free
color = "gray"
mean = 127.5                # in 0..255
std = 127.5
layout = "NCHW"
dtype = "float32"

[output]
task = "ctc"
activation = "softmax"      # the model gives logits
labels = "alphabet.txt"
blank = 0
"""

Line = tuple[str, render.Gray]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run trains and for how long."""

    model: str
    steps: int
    minutes: float
    lines: int
    batch: int
    workers: int
    folder: Path
    state: Path | None


@dataclass(frozen=True, slots=True)
class Score:
    """Share of lines read without any error, and edit distance per character, both in percent."""

    exact: float
    cer: float

    def __str__(self) -> str:
        return f"exact match {self.exact:.2f} %, CER {self.cer:.3f} %"


# --- models ----------------------------------------------------------------------------------------------------------


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], groups: int = 1) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _separable(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    return nn.Sequential(_conv(inputs, inputs, kernel, stride, inputs), _conv(inputs, outputs, (1, 1), (1, 1)))


class Residual(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy here
    """The input plus what a depthwise-separable convolution makes of it."""

    def __init__(self, channels: int, kernel: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        self.body = _separable(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) as it came in, with the body's answer added."""
        y: Tensor = x + self.body(x)
        return y


class Separable(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy here
    """Model a: depthwise-separable residual convolutions only; one step of the output for three pixels of width."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        # The stem goes to a third of the width at once: all that follows costs a third, and a narrow "i" of six pixels
        # still has two steps, which CTC needs for doubled letters.
        self.body = nn.Sequential(
            _conv(1, 32, (5, 5), (2, 3)),
            _separable(32, 64, (3, 3), (2, 1)),
            Residual(64),
            Residual(64),
            _separable(64, 96, (3, 3), (2, 1)),
            Residual(96),
            Residual(96),
            nn.Conv2d(96, 128, (4, 1), bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            *(Residual(128, (1, 7)) for _ in range(3)),
            nn.Dropout(0.1),
            nn.Conv2d(128, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, T, classes) of lines (N, 1, 32, W)."""
        y: Tensor = self.body(x)
        return y.squeeze(2).transpose(1, 2)


class Recurrent(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy here
    """Model b: three plain convolutions and a bidirectional GRU over the columns."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(1, 24, (5, 5), (2, 3)), _conv(24, 48, (3, 3), (2, 1)), _conv(48, 64, (3, 3), (2, 1))
        )
        self.project = nn.Linear(64 * 4, 96)
        self.recur = nn.GRU(96, 64, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, T, classes) of lines (N, 1, 32, W)."""
        columns = self.body(x).flatten(1, 2).transpose(1, 2)
        states, _ = self.recur(torch.relu(self.project(columns)))
        logits: Tensor = self.head(self.drop(states))
        return logits


def build(model: str) -> nn.Module:
    """The untrained model "a" or "b" for the demo's charset and a blank at 0."""
    classes = len(render.CHARSET) + 1
    net = Separable(classes) if model == "a" else Recurrent(classes)
    return net.to(memory_format=torch.channels_last)  # a fifth faster on CPUs than channels first


# --- lines -----------------------------------------------------------------------------------------------------------


def _render_span(span: tuple[int, int, int, render.FontSet]) -> list[Line]:
    seed, first, last, fonts = span
    return [render.render_sample(seed, index, fonts) for index in range(first, last)]


def render_lines(seed: int, count: int, fonts: render.FontSet, workers: int) -> list[Line]:
    """The first `count` lines of a series, rendered by `workers` processes."""
    spans = [(seed, first, min(first + 500, count), fonts) for first in range(0, count, 500)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return [line for part in pool.imap(_render_span, spans) for line in part]


def stack(grays: Sequence[render.Gray], multiple: int, fill: float | None) -> Floats:
    """Lines as one float32 batch (N, 1, 32, W), W a multiple, filled up with `fill` or each line's last column."""
    width = math.ceil(max(gray.shape[1] for gray in grays) / multiple) * multiple
    batch = np.empty((len(grays), 1, render.HEIGHT, width), dtype=np.float32)
    for row, gray in zip(batch, grays, strict=True):
        row[0, :, : gray.shape[1]] = gray
        row[0, :, gray.shape[1] :] = gray[:, -1].mean() if fill is None else fill
    return (batch - np.float32(127.5)) / np.float32(127.5)


def batches(lines: Sequence[Line], size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, list[str]]]:
    """Endless shuffled batches of lines of nearly the same width.

    The widths are few (multiples of 48), because the CPU kernels are built anew for each shape. The padding is of
    several kinds, so that a model reads a padded batch like the lines alone.
    """
    widths = np.array([gray.shape[1] for _, gray in lines])
    while True:
        order = np.argsort(widths + rng.uniform(0, 24, len(widths)))
        groups = [order[first : first + size] for first in range(0, len(order) - size + 1, size)]
        for group in rng.permutation(len(groups)):
            chosen = [lines[int(index)] for index in groups[group]]
            fill = (None, None, 127.5, 255.0)[int(rng.integers(4))]
            yield torch.from_numpy(stack([gray for _, gray in chosen], 48, fill)), [text for text, _ in chosen]


# --- training --------------------------------------------------------------------------------------------------------


def ctc_loss(logits: Tensor, texts: Sequence[str]) -> Tensor:
    """Mean CTC loss a character of a batch of logits (N, T, C)."""
    codes = {char: code for code, char in enumerate(render.CHARSET, start=BLANK + 1)}
    targets = torch.tensor([codes[char] for text in texts for char in text])
    lengths = torch.tensor([len(text) for text in texts])
    steps = torch.full((len(texts),), logits.shape[1])
    return nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), targets, steps, lengths, BLANK, zero_infinity=True
    )


def rate_at(progress: float) -> float:
    """Learning rate as a share of its peak: a short rise, then half a cosine down to zero."""
    if progress < 0.08:
        return 0.04 + 0.96 * progress / 0.08
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.08) / 0.92)))


def progress_at(steps_share: float, time_share: float) -> float:
    """Share of the run that is over: that of the steps, unless the time runs out clearly sooner.

    The slack keeps a run with time to spare independent of the clock, and so the same each time.
    """
    return time_share if time_share >= min(1.0, steps_share + 0.05) else steps_share


def train(net: nn.Module, lines: Sequence[Line], plan: Plan) -> int:
    """Train in place and return how many steps were made."""
    rng, started = np.random.default_rng(TRAIN_SEED), time.monotonic()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE[plan.model], weight_decay=1e-2)
    net.train()
    for step, (images, texts) in enumerate(batches(lines, plan.batch, rng)):
        elapsed_s = time.monotonic() - started
        progress = progress_at(step / plan.steps, elapsed_s / 60 / plan.minutes)
        if progress >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE[plan.model] * rate_at(progress)
        loss = ctc_loss(net(images.contiguous(memory_format=torch.channels_last)), texts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:5d} of {plan.steps}  {elapsed_s:6.1f} s  loss a character {loss.item():.4f}", flush=True)
    return plan.steps


def export(net: nn.Module, plan: Plan) -> Path:
    """Write `lines_<model>.onnx`, its TOML and the alphabet; the batch and the width stay free."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / f"lines_{plan.model}.onnx"
    torch.onnx.export(
        net.eval().to(memory_format=torch.contiguous_format),
        (torch.zeros(2, 1, render.HEIGHT, 96),),
        path,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N", 3: "W"}, "logits": {0: "N", 1: "T"}},
        opset_version=17,
        dynamo=False,  # the other exporter needs one more package
    )
    path.with_suffix(".toml").write_text(TOML.format(name=plan.model), encoding="utf-8")
    (plan.folder / "alphabet.txt").write_text("".join(f"{char}\n" for char in render.CHARSET), encoding="utf-8")
    return path


# --- scoring ---------------------------------------------------------------------------------------------------------


def read_greedily(logits: Floats) -> str:
    """The text of one line's logits (T, C): best class of each step, repeats joined, blanks dropped."""
    best = logits.argmax(-1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(render.CHARSET[code - 1] for code in kept if code != BLANK)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein distance: insertions, deletions and replacements that turn one text into the other."""
    row = list(range(len(other) + 1))
    for index, char in enumerate(one, start=1):
        above_left, row[0] = row[0], index
        for column, mark in enumerate(other, start=1):
            replaced = above_left + (char != mark)
            above_left, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, replaced)
    return row[-1]


def score(path: Path, lines: Sequence[Line]) -> Score:
    """How the exported model reads the lines, one at a time, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    errors = []
    for text, gray in lines:
        (logits,) = session.run(None, {"input": stack([gray], 1, None)})
        errors.append(edit_distance(read_greedily(logits[0]), text))
    characters = sum(len(text) for text, _ in lines)
    return Score(100 * errors.count(0) / len(lines), 100 * sum(errors) / characters)


def main() -> None:
    """Render, train, export and score one model."""
    started = time.monotonic()
    plan = _read_arguments()
    torch.manual_seed(TRAIN_SEED)
    torch.set_num_threads(plan.workers)
    lines = render_lines(TRAIN_SEED, plan.lines, "seen", plan.workers)
    print(f"{len(lines):,} lines rendered in {time.monotonic() - started:.0f} s", flush=True)
    net = build(plan.model)
    if plan.state and plan.state.exists():
        net.load_state_dict(torch.load(plan.state, weights_only=True))
    steps = train(net, lines, plan)
    if plan.state:
        torch.save(net.state_dict(), plan.state)
    path = export(net, plan)
    minutes = (time.monotonic() - started) / 60
    print(f"{path.name}: {path.stat().st_size:,} bytes, {steps:,} steps, {minutes:.1f} minutes with the rendering")
    print("fonts seen:  ", score(path, render_lines(SEEN_SEED, 2_000, "seen", plan.workers)))
    print("fonts unseen:", score(path, render_lines(UNSEEN_SEED, 2_000, "unseen", plan.workers)))


def _read_arguments() -> Plan:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=("a", "b"), required=True)
    parser.add_argument("--steps", type=int, help=f"steps to train (default: {STEPS})")
    parser.add_argument("--minutes", type=float, default=30.0, help="end after this time at the latest (default: 30)")
    parser.add_argument("--lines", type=int, default=48_000, help="lines to render for training (default: 48,000)")
    parser.add_argument("--batch", type=int, default=32, help="lines in a batch (default: 32)")
    parser.add_argument("--workers", type=int, default=2, help="processes and threads to use (default: 2)")
    parser.add_argument("--folder", type=Path, default=MODELS, help="where to write (default: the package's models)")
    parser.add_argument("--state", type=Path, help="weights to start from, if the file exists, and to save")
    given = vars(parser.parse_args())
    return Plan(**{**given, "steps": given["steps"] or STEPS[given["model"]]})


if __name__ == "__main__":
    main()
