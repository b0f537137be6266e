"""Images per second of a training, beside ``train_vae`` of the original with equal networks.

``python -m benchmarks.training [--original PYTHON] [--sizes 64:256 ...]`` simulates images, and
trains on them with ``train.py trainer.tune=true`` and, given the Python of an environment that has
cryoDRGN 4.3, with its ``train_vae``: coordinate network and image network of the same width, three
residual blocks each, 8 latents, poses given. An image costs what the process takes between the last
steps of the first and the last epoch, so that neither imports nor reading nor tuning count.
Seconds are those of the processor, which other work on the machine changes least; with ``--gpu``
those of the clock. Memory is the most that the process held (with ``--gpu`` of the host alone).
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
LATENTS, DEPTH, EPOCHS = 8, 3, 3
SIZES = ("64:256", "64:1024", "128:256", "128:1024")


@dataclass(frozen=True)
class Size:
    """Box in pixels and width of the networks."""

    box: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Of ``64:256``."""
        box, width = text.split(":")
        return cls(int(box), int(width))

    def images(self, work: float, batch: int) -> int:
        """So many that an epoch has the same work at any size; multiples of the largest batch."""
        relative = (self.box / 64) ** 2 * (self.width / 256) ** 2
        return max(1, int(work / relative) // batch) * batch

    def gigaflop(self) -> float:
        """Products of a training step for an image, forwards and backwards, decoder alone."""
        points = 3.1416 * (self.box / 2) ** 2 / 2
        weights = 3 * self.box * self.width + DEPTH * self.width**2 + 2 * self.width
        no_gradient = 3 * self.box * self.width  # of the encoded coordinates
        return 2 * points * (3 * weights - no_gradient) / 1e9


@dataclass(frozen=True)
class Cost:
    """Of a command or a part of it."""

    processor: float
    wall: float
    peak_mb: float


def measure(command: list[str | Path], log: Path) -> Cost:
    """Run a command to its end; its output goes to a file.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    start = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
        usage = _usage_at_end(process, log)
    wall = time.perf_counter() - start
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1e3)


def measure_between(command: list[str | Path], log: Path, lines: tuple[str, str]) -> Cost:
    """Run a command to its end, and measure what it takes from one line of its output to another.

    Raises
    ------
    RuntimeError
        If it fails, or ends without these lines.
    """
    with log.open("w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
        clocks = [_clocks_at(line, process, log) for line in lines]
        usage = _usage_at_end(process, log)
    processor, wall = (last - first for first, last in zip(*clocks, strict=True))
    return Cost(processor, wall, usage.ru_maxrss / 1e3)


def _usage_at_end(process: subprocess.Popen[bytes], log: Path) -> resource.struct_rusage:
    """What a command has used in all, once it has ended well."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{process.args} failed:\n{log.read_text()[-2000:]}")
    return usage


def _clocks_at(line: str, process: subprocess.Popen[bytes], log: Path) -> tuple[float, float]:
    """Seconds of the processor and of the clock when a line appears."""
    while line not in log.read_text():
        if process.poll() is not None:
            raise RuntimeError(f"{line!r} is not in what it says:\n{log.read_text()[-2000:]}")
        time.sleep(0.01)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # of the user and of the system
    return ticks / os.sysconf("SC_CLK_TCK"), time.perf_counter()


def ours(size: Size, batch: int, precision: str, particles: Path, gpu: bool) -> list[str | Path]:
    """Command of a training, without its number of epochs and folder."""
    return [
        sys.executable,
        TRAIN,
        "data=particles",
        f"data.particles={particles}",
        f"data.batch_size={batch}",
        "data.sign=light",
        "data.placement=ram",
        "model=hetero",
        f"model.latent_dim={LATENTS}",
        "model/decoder=fourier_mlp",
        f"model.decoder.width={size.width}",
        "model/encoder=mlp",
        f"model.encoder.width={size.width}",
        f"trainer={'gpu' if gpu else 'cpu'}",
        f"trainer.precision={precision}",
        "trainer.tune=true",
        "~callbacks.export",
        "callbacks.progress.every_n_seconds=0",
        "~callbacks.live",  # takes a share of hours, more of such short epochs
        "preflight=false",
        "resume=never",
    ]


def original(
    size: Size, batch: int, precision: str, particles: Path, python: Path
) -> list[str | Path]:
    """The same for ``train_vae``."""
    folder = particles.parent
    command = [
        python.with_name("cryodrgn"),
        "train_vae",
        folder / "particles.mrcs",
        f"--ctf={folder / 'ctf.pkl'}",
        f"--poses={folder / 'poses.pkl'}",
        f"--zdim={LATENTS}",
        f"--batch-size={batch}",
        f"--enc-dim={size.width}",
        f"--dec-dim={size.width}",
        f"--enc-layers={DEPTH}",
        f"--dec-layers={DEPTH}",
        "--uninvert-data",
        "--no-analysis",
        "--checkpoint=1000",
    ]
    return command if precision == "amp" else [*command, "--no-amp"]


def prepare(size: Size, n: int, folder: Path, python: Path | None) -> Path:
    """Simulate, and write poses and CTF as the original wants them."""
    particles = folder / "particles.star"
    simulate = [
        *(Path(sys.executable).with_name("cryoem"), "simulate", "linear_1d", "-o", folder),
        *("--n", str(n), "--box-size", str(size.box), "--pixel-size", str(384 / size.box)),
    ]
    measure([*simulate, "--sign", "light"], folder.with_suffix(".log"))
    if python is not None:
        for verb, name in (("parse_pose_star", "poses.pkl"), ("parse_ctf_star", "ctf.pkl")):
            parse = [python.with_name("cryodrgn"), verb, particles, "-o", folder / name]
            measure(parse, folder / "parse.log")
    return particles


def per_image(command: list[str | Path], n: int, batch: int, folder: Path, is_ours: bool) -> Cost:
    """Seconds of the later epochs per image."""
    if is_ours:
        command = [*command, f"trainer.max_epochs={EPOCHS}", f"output_dir={folder / 'out'}"]
        lines = f" step {n // batch}/", f" step {EPOCHS * n // batch}/"
    else:
        command = [*command, f"--num-epochs={EPOCHS}", f"--outdir={folder / 'out'}"]
        lines = "=====> Epoch: 1 ", f"=====> Epoch: {EPOCHS} "
    cost = measure_between(command, folder / "training.log", lines)
    images = n * (EPOCHS - 1)
    return Cost(cost.processor / images, cost.wall / images, cost.peak_mb)


def trainings(
    arguments: argparse.Namespace, size: Size, particles: Path
) -> Iterator[tuple[str, int, list[str | Path]]]:
    """Name, batch and command of each row; the original with its default batch first."""
    if arguments.original is not None:
        precision = "amp" if arguments.gpu else "float32"
        for batch in arguments.batches:
            command = original(size, batch, precision, particles, arguments.original)
            yield f"train_vae {precision}", batch, command
    for precision in ("32-true", "bf16-mixed"):
        for batch in arguments.batches:
            yield f"ours {precision}", batch, ours(size, batch, precision, particles, arguments.gpu)


def main() -> None:
    """Print a line for every program, precision and batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--original", type=Path, help="Python of an environment that has cryoDRGN")
    add("--sizes", nargs="+", default=SIZES, metavar="BOX:WIDTH")
    add("--batches", nargs="+", type=int, default=[16, 64])
    add("--work", type=float, default=512, help="images at 64:256; fewer at larger sizes")
    add("--gpu", action="store_true")
    arguments = parser.parse_args()
    clock = "wall" if arguments.gpu else "CPU"
    print(
        f"{'':20s} {'batch':>5s} {clock + ' ms':>9s} {'images/s':>9s} {'GFLOP/s':>8s}"
        f" {'peak MB':>8s} {'ratio':>6s}"
    )
    for text in arguments.sizes:
        size = Size.parse(text)
        n = size.images(arguments.work, max(arguments.batches))
        print(f"{size.box} pixels, {size.width} x {DEPTH}, {n} images", flush=True)
        with tempfile.TemporaryDirectory() as temporary:
            particles = prepare(size, n, Path(temporary) / "data", arguments.original)
            first = None
            for i, (name, batch, command) in enumerate(trainings(arguments, size, particles)):
                folder = Path(temporary) / str(i)
                folder.mkdir()
                cost = per_image(command, n, batch, folder, name.startswith("ours"))
                seconds = cost.wall if arguments.gpu else cost.processor
                first = first or seconds
                print(
                    f"  {name:18s} {batch:5d} {1e3 * seconds:9.1f} {1 / cost.wall:9.1f}"
                    f" {size.gigaflop() / seconds:8.0f} {cost.peak_mb:8.0f} {first / seconds:6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
