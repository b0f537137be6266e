"""Memory of a streaming pass over time, for 1, 4 and 16 times as many particles.

``python -m benchmarks.streaming_memory [--images 10000] [--box-size 128] [--folder DIR]`` writes
stacks of noise (0.7, 2.6 and 10.5 GB by default; each is removed before the next is written) and
reads each once, with two workers, window, normalisation and transform. Shown is the memory of all
processes of the run beyond what it has when everything is imported: pages that are shared count
once (PSS of Linux). The page cache is not ours and does not count.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.streaming import write_particles

FACTORS = (1, 4, 16)
_CHILD = """
import sys, torch
from benchmarks.streaming import batches, opened
torch.set_num_threads(1)
print("imported", flush=True); sys.stdin.readline()
data = opened(sys.argv[1], "stream", 2)
for _ in batches(data, data.train_dataloader(), ready=True):
    pass
"""


def processes(root: int) -> Iterator[int]:
    """A process and all below it."""
    yield root
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from processes(int(child))


def megabytes(root: int) -> float:
    """Memory of a process and all below it."""
    total = 0
    for process in processes(root):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1e3


def watched(star: Path) -> np.ndarray:
    """Megabytes beyond the imports, twice a second while a pass lasts."""
    words = [sys.executable, "-c", _CHILD, str(star)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, text=True) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        imports = megabytes(child.pid)
        print("go", file=child.stdin, flush=True)
        samples = []
        while child.poll() is None:
            samples.append(megabytes(child.pid) - imports)
            time.sleep(0.5)
    if child.returncode:
        raise SystemExit(child.returncode)
    return np.array(samples)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--box-size", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="where the stacks are put for the time")
    args = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        print("skipped: needs /proc of Linux")
        return
    print("  images   GB on disk   MB beyond the imports at each tenth of the time, and the most")
    for factor in FACTORS:
        n = factor * args.images
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            star = write_particles(Path(folder), n, args.box_size)
            size = os.path.getsize(star.with_suffix(".mrcs"))
            samples = watched(star)
        tenths = samples[np.linspace(0, len(samples) - 1, 11).round().astype(int)[1:-1]]
        row = " ".join(f"{value:5.0f}" for value in tenths)
        print(f"{n:8d} {size / 1e9:12.2f}   {row}   {samples.max():5.0f}", flush=True)


if __name__ == "__main__":
    main()
