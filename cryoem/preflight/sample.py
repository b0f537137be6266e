"""The few thousand images on which everything is tried, read once and kept on the device."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import ParticleBatch, Pose, RawBatch, concatenate
from cryoem.fourier import fourier_crop
from cryoem.io.pixels import check_finite
from cryoem.io.source import ParticleSource
from cryoem.lattice import FourierLattice
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise

_BLOCK = 128


@dataclass(frozen=True)
class Sample:
    """Cropped images as the model would see them if they were light, with what goes with them.

    Attributes
    ----------
    batch
        Half-discs of all images; ``index`` is the row of the table.
    pose
        Shifts in pixels of the crop; None where the files hold none.
    half
        Which of two maps each image is for: 0 or 1 in turn.
    lattice
        Of the crop.
    pixel_size_angstrom, source_pixel_size_angstrom
        Of the crop's volume; as stated for the file.
    weight
        One over the mean power of the images at each point of the lattice.
    """

    batch: ParticleBatch
    pose: Pose | None
    half: Int64[Tensor, " batch"]
    lattice: FourierLattice
    pixel_size_angstrom: float
    source_pixel_size_angstrom: float
    weight: Float[Tensor, " freq"]

    def __len__(self) -> int:
        return len(self.batch)


def read_sample(
    source: ParticleSource,
    pose: Pose | None,
    rows: Int64[Tensor, " row"],
    box_size: int,
    device: torch.device | str = "cpu",
) -> Sample:
    """Read, crop and transform the images of these rows.

    ``pose`` has one row per row of the table, shifts in pixels of the file.

    Raises
    ------
    InputError
        If an image has pixels that are not finite.
    """
    table, side = source.table, min(box_size, source.geometry.box_size)
    binning = source.geometry.box_size / side
    images = torch.cat([_read(source, part, side).to(device) for part in rows.split(_BLOCK)])
    mean, noise = estimate_noise(images)
    lattice = FourierLattice(side)
    preprocess = Preprocess(side, lattice, Normalisation(mean, noise, sign=1)).to(device)
    pixel_size = torch.from_numpy(table.pixel_size_angstrom[rows.numpy()]).float() * binning
    ctf = None if table.ctf is None else table.ctf[rows]
    raw = RawBatch(rows, images, pixel_size, ctf).to(device)
    batch = concatenate([preprocess(raw[part]) for part in _slices(len(rows))])
    power = batch.fourier.abs().square().mean(0)
    shell = preprocess.lattice.radii.round().long()
    count = torch.bincount(shell).clamp(min=1)
    by_shell = torch.bincount(shell, power.double()) / count
    return Sample(
        batch=batch,
        pose=None if pose is None else _scaled(pose[rows].to(device), binning),
        half=torch.arange(len(rows), device=device) % 2,
        lattice=preprocess.lattice,
        pixel_size_angstrom=source.geometry.pixel_size_angstrom * binning,
        source_pixel_size_angstrom=source.geometry.pixel_size_angstrom,
        weight=(1 / by_shell.clamp(min=1e-12))[shell].float(),
    )


def _read(
    source: ParticleSource, rows: Int64[Tensor, " row"], side: int
) -> Float[Tensor, "row side side"]:
    images = source.read(rows)
    check_finite(images, rows, source.table)
    return fourier_crop(images, side)


def _scaled(pose: Pose, binning: float) -> Pose:
    return Pose(pose.rotation, pose.shift / binning)


def _slices(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
