"""The part of ``benchmarks.streaming`` that runs where cryoDRGN is installed.

``PYTHON streaming_original.py STACK LOADER SECONDS`` prints one line of JSON.
"""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
from cryodrgn.dataset import ImageDataset, make_dataloader

BATCH = 64


def loader(stack, kind):
    """Images per batch of one epoch, and the seconds that opening took."""
    start = time.perf_counter()
    data = ImageDataset(stack, lazy=not kind.startswith("eager"))
    opened = time.perf_counter() - start
    if kind == "random reads":
        order = np.random.default_rng(0).permutation(data.N)
        parts = np.array_split(order, data.N // BATCH)
        return opened, (len(data.src.images(part)) for part in parts)
    workers = int(kind.split()[1])
    batches = make_dataloader(data, batch_size=BATCH, num_workers=workers, shuffle=True)
    return opened, (len(batch["y"]) for batch in batches)


def processor_seconds():
    """Of this process and its workers, as long as they live."""
    total = sum(os.times()[:2])
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def main():
    """Count images until they or the time are at an end."""
    stack, kind, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    opened, parts = loader(stack, kind)
    start, cpu, images = time.perf_counter(), processor_seconds(), 0
    for count in parts:
        images += count
        if time.perf_counter() - start > seconds:
            break
    wall, used = time.perf_counter() - start, processor_seconds() - cpu
    print(json.dumps({"open_s": opened, "images": images, "wall_s": wall, "cpu_s": used}))
    sys.stdout.flush()
    os._exit(0)  # its workers may wait for ever for someone to take what they have read


if __name__ == "__main__":
    main()
