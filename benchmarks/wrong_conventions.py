"""What each wrong convention does to a back-projection of simulated ribosomes.

``python benchmarks/wrong_conventions.py [N]`` reconstructs ``sim/homog64`` of the reference data
(folder in ``CRYOEM_SHARED``, by default ``../shared/data``), or its first N images, once as it
should be and then with one thing wrong each time. Printed is the mean FSC with the truth, and that
of the mirrored map: a wrong hand shows up there. The particles are dark, so a map made of the
images as they lie in the file, without CTF, is negative.
"""

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cryoem.backproject import backproject
from cryoem.batch import Pose
from cryoem.io.source import StackSource, open_particles
from cryoem.io.volume import read_volume
from cryoem.lattice import FourierLattice
from cryoem.metrics.fsc import fsc
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise

Case = Callable[[StackSource, Pose], tuple[StackSource, Pose]]


def _shift(change: Callable[[Tensor], Tensor]) -> Case:
    return lambda source, pose: (source, replace(pose, shift=change(pose.shift)))


def _rotation(change: Callable[[Tensor], Tensor]) -> Case:
    return lambda source, pose: (source, replace(pose, rotation=change(pose.rotation)))


def _other_hand(rotation: Tensor) -> Tensor:
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    return mirror @ rotation @ mirror


def _no_amplitude_contrast(source: StackSource, pose: Pose) -> tuple[StackSource, Pose]:
    table = source.table
    zero = torch.zeros(len(table))
    return replace(
        source, table=replace(table, ctf=replace(table.ctf, amplitude_contrast=zero))
    ), pose


def _pixel_size_off(source: StackSource, pose: Pose) -> tuple[StackSource, Pose]:
    table, geometry = source.table, source.geometry
    table = replace(table, pixel_size_angstrom=table.pixel_size_angstrom * 1.02)
    larger = replace(geometry, pixel_size_angstrom=geometry.pixel_size_angstrom * 1.02)
    return replace(source, table=table, geometry=larger), pose


CASES: dict[str, Case] = {
    "as is": lambda source, pose: (source, pose),
    "shifts zero": _shift(torch.zeros_like),
    "shifts negated": _shift(torch.neg),
    "shifts x and y swapped": _shift(lambda shift: shift.flip(-1)),
    "rotations transposed": _rotation(lambda rotation: rotation.mT),
    "hand flipped": _rotation(_other_hand),
    "w = 0": _no_amplitude_contrast,
    "pixel size 2 % off": _pixel_size_off,
}


def mirror(volume: Tensor) -> Tensor:
    """Mirror a volume in the plane z = 0 through its centre."""
    return volume.flip(0).roll(1, 0)


def reconstruct(source: StackSource, pose: Pose, sign: int = -1, use_ctf: bool = True) -> Tensor:
    """Back-project all images."""
    side = source.geometry.box_size
    step = max(1, len(source.table) // 200)
    mean, noise_std = estimate_noise(source.read(torch.arange(0, len(source.table), step)))
    preprocess = Preprocess(side, FourierLattice(side), Normalisation(mean, noise_std, sign))
    return backproject(source, pose, preprocess, use_ctf=use_ctf).volume


def table(source: StackSource, truth: Tensor) -> dict[str, tuple[float, float]]:
    """Mean FSC of the map and of its mirror image for every case."""
    assert source.table.pose is not None
    pose = source.table.pose
    maps = {name: reconstruct(*case(source, pose)) for name, case in CASES.items()}
    maps["data sign wrong"] = reconstruct(source, pose, sign=1)
    maps["no CTF"] = reconstruct(source, pose, use_ctf=False)
    maps["no CTF, data sign wrong"] = reconstruct(source, pose, sign=1, use_ctf=False)
    return {
        name: (fsc(volume, truth).mean(), fsc(mirror(volume), truth).mean())
        for name, volume in maps.items()
    }


def main() -> int:
    """Print the table; skip without the reference data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CRYOEM_SHARED", default)) / "sim" / "homog64"
    if not folder.is_dir():
        print(f"skipped: no reference data in {folder}; set CRYOEM_SHARED")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(folder / "particles.star", scratch)
        with gzip.open(folder / "particles.mrcs.gz") as packed:
            with open(Path(scratch, "particles.mrcs"), "wb") as plain:
                shutil.copyfileobj(packed, plain)
        select = f"first:{sys.argv[1]}" if len(sys.argv) > 1 else None
        source = open_particles(Path(scratch, "particles.star"), select=select)
        truth = torch.from_numpy(read_volume(folder / "truth.mrc")[0])
        for name, (direct, mirrored) in table(source, truth).items():
            print(f"{name:<24} {direct:7.3f} ({mirrored:6.3f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
