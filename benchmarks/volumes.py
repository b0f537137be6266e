"""CPU seconds of a decoded volume, beside ``eval_vol`` of the original with an equal network.

``python -m benchmarks.volumes [--original PYTHON] [--size 128:256] [--volumes N]`` trains both for
an epoch on 64 images, then decodes one volume and ``N`` more; the difference is what is printed.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.training import LATENTS, Size, measure, original, ours, prepare


def seconds_per_volume(
    decode: Callable[[Path, Path], list[str | Path]], n: int, folder: Path
) -> tuple[float, float]:
    """CPU seconds of each further volume, and the most memory in MB."""
    z = np.random.default_rng(0).normal(size=(1 + n, LATENTS))
    costs = []
    for rows in (z[:1], z):
        latents = folder / f"z{len(rows)}.txt"
        np.savetxt(latents, rows)
        costs.append(measure(decode(latents, folder / f"volumes{len(rows)}"), folder / "log"))
    return (costs[1].processor - costs[0].processor) / n, costs[1].peak_mb


def main() -> None:
    """Print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--original", type=Path, help="Python of an environment that has cryoDRGN")
    parser.add_argument("--size", default="128:256", metavar="BOX:WIDTH")
    parser.add_argument("--volumes", type=int, default=19)
    arguments = parser.parse_args()
    size, n = Size.parse(arguments.size), arguments.volumes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        particles = prepare(size, 64, folder / "data", arguments.original)
        run = folder / "run"
        # with the results: volumes are decoded at latents of the run's own
        command = [
            word
            for word in ours(size, 16, "32-true", particles, False)
            if "export" not in str(word)
        ]
        measure([*command, "trainer.max_epochs=1", f"output_dir={run}"], folder / "log")
        cryoem = Path(sys.executable).with_name("cryoem")
        rows = {"ours": lambda z, out: [cryoem, "volumes", run, "--latents", z, "-o", out]}
        if arguments.original is not None:
            theirs = folder / "theirs"
            command = original(size, 16, "float32", particles, arguments.original)
            measure([*command, "--num-epochs=1", f"--outdir={theirs}"], folder / "log")
            weights, config = theirs / "weights.pkl", theirs / "config.yaml"
            program = arguments.original.with_name("cryodrgn")
            rows["eval_vol"] = lambda z, out: [
                *(program, "eval_vol", weights, "-c", config, "--zfile", z, "-o", out)
            ]
        print(f"{size.box} pixels, {size.width} x 3: CPU seconds per volume, peak MB")
        for name, decode in rows.items():
            (folder / name).mkdir()
            seconds, peak = seconds_per_volume(decode, n, folder / name)
            print(f"  {name:10s} {seconds:8.2f} {peak:8.0f}", flush=True)


if __name__ == "__main__":
    main()
