"""Decode volumes of a run at chosen latents.

  cryoem volumes runs/NAME --path curve -n 10 -o OUT    along the data, in order
  cryoem volumes runs/NAME --path pc1 -n 10 -o OUT      straight along a principal component
  cryoem volumes runs/NAME --particles 5,17 -o OUT      at particles (rows of the input, from 0)
  cryoem volumes runs/NAME --kmeans 20 -o OUT           at the particles nearest to cluster centres
  cryoem volumes runs/NAME --latents z.txt -o OUT       one row each; .npy, .npz or .txt
  cryoem volumes runs/NAME -o OUT                       the volume of a homogeneous run

OUT gets volume_001.mrc ..., volumes.csv (the latent of each) and open.cxc for ChimeraX.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from cryoem.analysis.clusters import cluster_particles
from cryoem.analysis.decode import decode_volumes
from cryoem.analysis.latents import read_latent_file, read_run_latents
from cryoem.analysis.path import axis_path, representative_particles
from cryoem.analysis.volume_edits import low_pass, other_hand
from cryoem.checkpoint import LoadedRun, load_run
from cryoem.errors import InputError
from cryoem.export_run import stale_volumes, write_series


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run, or one of its .ckpt files")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--latents", type=Path, metavar="FILE", help="one row per volume")
    which.add_argument("--path", metavar="pc1|curve", help="pc1, pc2, ...: a straight line; curve")
    which.add_argument("--particles", type=_numbers, metavar="5,17,...", help="rows of the input")
    which.add_argument("--kmeans", type=int, metavar="K", help="so many clusters")
    add("-n", type=int, default=10, help="volumes on a path (%(default)s)")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="made if missing")
    add("--box-size", type=int, metavar="D", help="Fourier-crop to this even box")
    add("--flip", action="store_true", help="the other hand")
    add("--low-pass", type=float, metavar="A", help="remove what is finer than this (angstrom)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be wrong, then decode and write one volume after another."""
    loaded = load_run(arguments.run, _device(arguments.device))
    side, new_side = loaded.geometry.box_size, arguments.box_size or loaded.geometry.box_size
    if not 8 <= new_side <= side or new_side % 2:
        raise InputError(f"--box-size {new_side}: give an even number from 8 to {side}, the run's")
    voxel_size = loaded.geometry.pixel_size_angstrom * side / new_side
    if arguments.low_pass is not None and not arguments.low_pass >= 2 * voxel_size:
        raise InputError(f"--low-pass {arguments.low_pass}: Nyquist is at {2 * voxel_size:g} A")
    z, particles = chosen_latents(arguments, loaded)
    n = 1 if z is None else len(z)
    _check_output(arguments.output, n)
    volumes = decode_volumes(
        loaded.decoders,
        side,
        z,
        data_scale=loaded.data_scale,
        device=_device(arguments.device),
        new_side=new_side,
    )
    console = Console(stderr=True)
    edited = _edited(volumes, arguments, voxel_size)
    shown = track(edited, "decoding", total=n, console=console, disable=not console.is_terminal)
    rows = np.zeros((1, 0), dtype=np.float32) if z is None else z
    write_series(arguments.output, shown, rows, voxel_size, particles)
    kind = f"volume{'s'[: n > 1]} of {new_side} voxels of {voxel_size:.4g} A"
    print(f"{n} {kind} in {arguments.output}")


def chosen_latents(
    arguments: argparse.Namespace, loaded: LoadedRun
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the latents to decode, and the particles (rows of the input) that they belong to."""
    given = (arguments.latents, arguments.path, arguments.particles, arguments.kmeans)
    dimension = loaded.decoders[0].latent_dim
    if dimension == 0:
        if any(choice is not None for choice in given):
            raise InputError(f"{arguments.run}: homogeneous, it has one volume and no latents")
        return None, None
    if arguments.latents is not None:
        return read_latent_file(arguments.latents, dimension), None
    if all(choice is None for choice in given):
        raise InputError("say where to decode: --latents, --path, --particles or --kmeans")
    latents = read_run_latents(arguments.run)
    if arguments.path is not None and arguments.path != "curve":
        return axis_path(latents.z, _axis(arguments.path, dimension), _count(arguments.n)), None
    if arguments.path == "curve":
        rows = representative_particles(latents.z, _count(arguments.n))
    elif arguments.particles is not None:
        rows = latents.rows_of(arguments.particles)
    else:
        rows, _ = cluster_particles(latents.z, arguments.kmeans)
    return latents.z[rows], latents.index[rows]


def _axis(path: str, dimension: int) -> int:
    match = re.fullmatch(r"pc([1-9]\d*)", path)
    if match is None or int(match[1]) > dimension:
        raise InputError(f"--path {path}: give pc1 to pc{dimension}, or curve")
    return int(match[1]) - 1


def _count(n: int) -> int:
    if n < 1:
        raise InputError(f"-n {n}: give at least 1")
    return n


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list like 5,17,23") from None


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: not usable here ({reason}); try cpu") from None


def _check_output(folder: Path, n: int) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o {folder}: is a file; give a folder")
    stale = stale_volumes(folder, n)
    if stale:
        raise InputError(
            f"-o {folder}: holds {stale[0].name} of an earlier series that would mix with the "
            f"{n} new; give another folder or empty it"
        )


def _edited(
    volumes: Iterator[np.ndarray], arguments: argparse.Namespace, voxel_size: float
) -> Iterator[np.ndarray]:
    for volume in volumes:
        edited = other_hand(volume) if arguments.flip else volume
        if arguments.low_pass is not None:
            edited = low_pass(edited, arguments.low_pass, voxel_size)
        yield edited
