"""Images per second from disk and from memory, beside a plain read and the original's loaders.

``python -m benchmarks.streaming [--images 50000] [--box-size 128] [--folder DIR] [--threads 1]
[--seconds 30] [--repeats 3] [--original PYTHON]`` writes a float32 stack of noise (3.3 GB by
default) into a folder that is removed at the end, and reads it in every way: after the pages of
the file were dropped from memory ("cold"), and once more ("warm"), each beside a plain read of the
file in the same state. "Raw" is batches of images as they lie in the file, "ready" adds what a
training needs: window, normalisation and transform, on the processor here. At last it trains on
it, a few steps with images from disk and a few from memory in turn. No measurement takes much
longer than ``--seconds``, nor more than one pass over the data.

With ``--original``, a Python in whose environment cryoDRGN 4.3 is installed, its lazy and eager
loaders read the same file. They cannot be had without window, normalisation and transform; "random
reads" are those of its lazy image source alone.
"""

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from conf.checks import check
from conf.compose import compose
from cryoem.batch import RawBatch
from cryoem.io.volume import write_stack
from datamodules import ParticleDataModule
from datamodules.stream import WINDOW_BYTES
from train import build

BATCH = 64
_BUFFER = 8 << 20
_STEPS, _TURNS = 4, 20  # of a training, for each place that images come from
_WARM_UP = 3.0  # seconds, in which workers start and memory is had


@dataclass(frozen=True)
class Rate:
    """Images, and the seconds that they took by the clock and of all processors together."""

    images: int
    wall_s: float
    cpu_s: float


def write_particles(folder: Path, n: int, side: int) -> Path:
    """Write a stack of noise with poses and CTF; what lies in it repeats after 8 MiB."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((max(1, _BUFFER // (4 * side * side)), side, side), np.float32)
    whole, rest = divmod(n, len(block))
    stack = folder / "particles.mrcs"
    write_stack(stack, [*[block] * whole, block[:rest]], 1.5)
    columns = rng.uniform([0, 0, 0, 5e3], [360, 180, 360, 2e4], (n, 4)).round(3)
    labels = ("AngleRot", "AngleTilt", "AnglePsi", "DefocusU")
    table = pd.DataFrame(columns, columns=[f"_rln{label}" for label in labels])
    table["_rlnDefocusV"] = table["_rlnDefocusU"]
    table["_rlnDefocusAngle"] = 0.0
    table["_rlnImageName"] = [f"{k:07d}@particles.mrcs" for k in range(1, n + 1)]
    for label, value in (
        ("ImagePixelSize", 1.5), ("Voltage", 300), ("SphericalAberration", 2.7),
        ("AmplitudeContrast", 0.1),
    ):  # fmt: skip
        table[f"_rln{label}"] = value
    star = folder / "particles.star"
    with star.open("w") as file:
        file.write("data_particles\n\nloop_\n" + "\n".join(table.columns) + "\n")
        table.to_csv(file, sep=" ", header=False, index=False)
    with stack.open("rb") as file:
        os.fsync(file.fileno())  # or its pages cannot be dropped
    return star


def forget(star: Path) -> None:
    """Drop the stack's pages from memory."""
    with star.with_suffix(".mrcs").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def processor_seconds() -> float:
    """Of this process, and of its workers while they live."""
    total = sum(os.times()[:2])
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(parts: Iterator[int], seconds: float) -> Rate:
    """Count images until they or the time are at an end."""
    start, cpu = time.perf_counter(), processor_seconds()
    images = 0
    for count in parts:
        images += count
        if time.perf_counter() - start > seconds:
            break
    return Rate(images, time.perf_counter() - start, processor_seconds() - cpu)


def batches(data: ParticleDataModule, loader: Iterable[RawBatch], ready: bool) -> Iterator[int]:
    """Images of one epoch."""
    for raw in loader:
        if ready:
            data.on_after_batch_transfer(raw, 0)
        yield len(raw)


def opened(star: Path, placement: str, workers: int | None = None) -> ParticleDataModule:
    """Data as a training opens them."""
    data = ParticleDataModule(
        star, placement=placement, batch_size=BATCH, sign="light", num_workers=workers
    )
    data.setup()
    return data


class _InTurn:
    """Batches of several loaders, a turn of each: what else the machine does meets all alike."""

    def __init__(self, loaders: list[Iterable[RawBatch]]) -> None:
        self._loaders = loaders

    def __len__(self) -> int:
        return _TURNS * _STEPS * len(self._loaders)

    def __iter__(self) -> Iterator[RawBatch]:
        passes = [iter(loader) for loader in self._loaders]
        for _ in range(_TURNS):
            for batches_of_one in passes:
                yield from islice(batches_of_one, _STEPS)


class _Turns(pl.Callback):
    """Time of every turn, by the clock and of all processors."""

    def __init__(self) -> None:
        self.rates: list[Rate] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._last = time.perf_counter(), processor_seconds()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Close a turn."""
        if (trainer.fit_loop.batch_idx + 1) % _STEPS == 0:
            now = time.perf_counter(), processor_seconds()
            wall, cpu = (new - old for new, old in zip(now, self._last, strict=True))
            self.rates.append(Rate(_STEPS * BATCH, wall, cpu))
            self._last = now


def training_rates(star: Path) -> tuple[list[Rate], list[Rate]]:
    """Turns of one training with latents that reads from disk and from memory in turn."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"data.particles={star}", "data.placement=stream", f"data.batch_size={BATCH}",
            "data.sign=light", "model=hetero",
            "trainer=cpu", "trainer.max_epochs=1", "~callbacks.export", "~callbacks.progress",
            "~callbacks.live", "trainer.enable_progress_bar=false", f"output_dir={folder}/run",
            "preflight=false",
        ]  # fmt: skip
        data, model, trainer = build(check(compose(overrides)))
        in_turn = _InTurn([data.train_dataloader(), opened(star, "ram").train_dataloader()])
        data.train_dataloader = lambda: in_turn
        turns = _Turns()
        trainer.callbacks.append(turns)
        trainer.fit(model, data)
    rates = turns.rates[2:]  # without the first turns: workers start, a window is filled
    return rates[0::2], rates[1::2]


def original(python: str, star: Path, loader: str, seconds: float, threads: int) -> Rate:
    """Let the original read the same stack."""
    script = Path(__file__).with_name("streaming_original.py")
    words = [python, str(script), str(star.with_suffix(".mrcs")), loader, str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"  {loader}: opened in {result.pop('open_s'):.1f} s", flush=True)
    return Rate(**result)


def speed(rate: Rate) -> float:
    """Images per second."""
    return rate.images / rate.wall_s


def show(name: str, found: list[list[Rate]], plain: list[list[Rate]]) -> None:
    """Print a line of the table: medians over repeats, and of the ratios to their plain reads."""
    cells = []
    for rates, reference in zip(found, plain, strict=True):  # cold, warm
        pairs = zip(rates, reference, strict=True)
        ratio = statistics.median(speed(rate) / speed(other) for rate, other in pairs)
        cpu = statistics.median(1e3 * rate.cpu_s / rate.images for rate in rates)
        cells.append(f"{statistics.median(map(speed, rates)):9.0f} {ratio:8.3f} {cpu:9.3f}")
    print(f"{name:34} {'   '.join(cells)}", flush=True)


def line(name: str, once: Callable[[], Rate], star: Path, args: argparse.Namespace) -> None:
    """Measure cold and warm, each beside a plain read in the same state, and print."""
    found: list[list[Rate]] = [[], []]
    plain: list[list[Rate]] = [[], []]
    for _ in range(args.repeats):
        for k, prepare in enumerate((forget, lambda star: None)):
            for rates, read in ((plain, lambda: plain_rate(star, args)), (found, once)):
                prepare(star)
                rates[k].append(read())
    show(name, found, plain)


def plain_rate(star: Path, args: argparse.Namespace, n_buffers: int = 1) -> Rate:
    """Read the stack from end to end, into the same 8 MiB again and again, or some in turn."""
    buffers = [bytearray(_BUFFER) for _ in range(n_buffers)]

    def parts() -> Iterator[int]:
        with star.with_suffix(".mrcs").open("rb", buffering=0) as file:
            for buffer in cycle(buffers):
                if not (count := file.readinto(buffer)):
                    return
                yield count

    rate = measure(parts(), args.seconds)
    return replace(rate, images=rate.images // (4 * args.box_size**2))


def compare(star: Path, args: argparse.Namespace) -> None:
    """Print the table."""
    header = "images/s of plain ms CPU/im"
    print(f"{'':34} {'cold':>28}   {'warm':>28}\n{'':34} {header}   {header}")
    line("plain sequential read", lambda: plain_rate(star, args), star, args)
    held = 2 * WINDOW_BYTES // _BUFFER
    line("plain, into two windows", lambda: plain_rate(star, args, held), star, args)

    def ours(name: str, data: ParticleDataModule, ready: bool) -> None:
        name += ", ready" if ready else ", raw"
        loader = data.train_dataloader()  # as in a training, the same in every epoch
        measure(batches(data, loader, ready), _WARM_UP)
        line(name, lambda: measure(batches(data, loader, ready), args.seconds), star, args)

    for workers in (0, 1, 2):
        ours(f"stream, {workers} workers", opened(star, "stream", workers), False)
    ours("stream, 2 workers", opened(star, "stream", 2), True)
    data = opened(star, "ram")
    for ready in (False, True):
        ours("ram", data, ready)
    del data
    if args.original is not None:
        for loader in ("random reads", "lazy, 2 workers", "lazy, 0 workers", "eager, 0 workers"):
            once = partial(original, args.original, star, loader, args.seconds, args.threads)
            line(f"original, {loader}", once, star, args)
    compare_trainings(star)


def compare_trainings(star: Path) -> None:
    """Print how fast a training is that reads from disk, beside memory."""
    stream, ram = training_rates(star)
    ratios = [speed(one) / speed(other) for one, other in zip(stream, ram, strict=True)]
    for place, rates in (("stream", stream), ("ram", ram)):
        cpu = statistics.median(1e3 * rate.cpu_s / rate.images for rate in rates)
        rate = statistics.median(map(speed, rates))
        print(f"training, {place:24} {rate:9.1f} images/s {cpu:9.3f} ms CPU/im")
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(f"training, stream of ram: {middle:.3f}, half of the turns {low:.3f} to {high:.3f}")


def main() -> None:
    """Write the stack, read it, remove it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--box-size", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="where the stack is put for the time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--original", metavar="PYTHON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.captureWarnings(True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        compare(write_particles(Path(folder), args.images, args.box_size), args)


if __name__ == "__main__":
    main()
