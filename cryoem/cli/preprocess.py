"""Write a crop of a particle stack once, as large contiguous shards for the fastest streaming.

  cryoem preprocess particles.star -o shards/box128 --box-size 128
  python train.py data.particles=shards/box128

The folder holds all that a training needs, in open formats: stacks (.mrcs) in the order in which
they are read, particles.star, a checksum of every image and an index. A run that was killed goes
on with the same command.
"""

import argparse
import os
import time
from pathlib import Path

from cryoem.cli.progress import advance, progress_bar
from cryoem.errors import InputError
from cryoem.io.shard_writer import write_shards
from cryoem.io.source import open_particles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("particles", type=Path, metavar="FILE", help=".star, .cs, .mrcs or .txt")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add("--box-size", type=int, metavar="PX", help="Fourier-crop to this even size (as it is)")
    add("--dtype", choices=("float16", "float32"), default="float16", help="(%(default)s)")
    add("--root", type=Path, metavar="DIR", help="folder that relative paths start from")
    add("--passthrough", type=Path, metavar="FILE", help="cryoSPARC's second file")
    add("--poses", type=Path, metavar="FILE", help="poses from another file")
    add("--ctf", type=Path, metavar="FILE", help="CTF from another file")
    add("--select", metavar="ROWS", help="rows to use: a file of indices or first:1000")
    add("--pixel-size", type=float, metavar="A", help="angstrom, only for files that do not say")
    add("--workers", type=int, default=_cores(), help="processes (%(default)s here)")


def run(args: argparse.Namespace) -> None:
    """Write the shards, with a progress bar on stderr and the index on stdout."""
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: must be at least 1")
    source = open_particles(
        args.particles,
        root=args.root,
        passthrough=args.passthrough,
        poses=args.poses,
        ctf=args.ctf,
        select=args.select,
        pixel_size_angstrom=args.pixel_size,
    )
    given = source.geometry.box_size
    side = given if args.box_size is None else args.box_size
    if side % 2 or not 8 <= side <= given:
        raise InputError(
            f"--box-size {side}: must be even and between 8 and {given}, the size of the images"
        )
    n = len(source.table)
    start = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("cropping", total=n, speed="")
        index = write_shards(
            source,
            args.output,
            box_size=side,
            dtype=args.dtype,
            workers=args.workers,
            progress=lambda done: advance(bar, task, int(bar.tasks[task].completed) + done),
        )
    seconds = time.perf_counter() - start
    size = sum(shard.n_bytes for shard in index.shards)
    print(
        f"{n} images, {size / 1e9:.2f} GB in {len(index.shards)} shards, {seconds:.1f} s "
        f"({n / seconds:.0f} images/s)"
    )
    print(f"train with data.particles={args.output}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
