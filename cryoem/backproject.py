"""Voxel back-projection: half-discs are spread on a Fourier grid and divided by their weights."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import ParticleBatch, Pose, RawBatch
from cryoem.ctf import evaluate_ctf
from cryoem.io.pixels import check_finite, check_varied
from cryoem.io.source import ParticleSource
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.metrics.fsc import fsc, shell_index
from cryoem.metrics.mask import ball_mask
from cryoem.preprocess import Preprocess
from cryoem.volume import spectrum_to_volume

# Measured on 100 to 5000 views of 64 pixels: a finer grid leaves holes between few views, a coarser
# one smooths over neighbours. It takes 3.4 times the memory of no oversampling.
OVERSAMPLING = 1.5


class Backprojector:
    """Reconstruct two half maps and their union from half-discs of known pose.

    Each sample ``X`` of an image with transfer ``C`` adds ``C X`` to a numerator and ``C^2`` to a
    weight at the eight grid points around its place in the volume (trilinear). The estimate is
    ``sum C X / (sum C^2 + lambda)``: least squares, density-compensated by the weight, with a prior
    whose ``lambda`` is, per shell, ``mean weight * (1 - FSC) / (4 FSC)``, the inverse of twice the
    signal-to-noise ratio ``2 FSC / (1 - FSC)`` of the union as the half maps tell it (the prior of
    Scheres, J. Struct. Biol. 180, 519 (2012); the factor two is measured: the ratio is of the whole
    ball, and the molecule fills part of it). The smear of the trilinear kernel is divided out in
    real space, where a soft ball cuts off what not every view has seen.

    Parameters
    ----------
    box_size
        Side ``D`` of the images and the volume, even.
    pixel_size_angstrom
        Of the volume. Particles with another size are placed at their own frequencies.
    radius
        Largest Fourier radius in pixels; ``D/2`` by default.
    device
        Where the sums are kept, and where the batches must be.
    """

    def __init__(
        self,
        box_size: int,
        pixel_size_angstrom: float,
        radius: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.pixel_size_angstrom = pixel_size_angstrom
        self.lattice = FourierLattice(box_size, radius).to(device)
        self._side = 2 * math.ceil(OVERSAMPLING * box_size / 2)
        self._shape = (self._side, self._side, self._side // 2 + 1)
        # real, imaginary and weight, for each half set, as rows: one scatter moves all three
        self._sums = torch.zeros(2, math.prod(self._shape), 3, device=device)

    def add(
        self,
        batch: ParticleBatch,
        pose: Pose,
        ctf: Float[Tensor, "batch freq"],
        half: Int64[Tensor, " batch"],
    ) -> None:
        """Add images to the half set (0 or 1) of each.

        ``pose`` and ``ctf`` are those of the batch, shifts in its pixels; the frequencies may reach
        beyond the radius.
        """
        count = self.lattice.n_freqs
        freqs = self.lattice.freqs
        transfer = ctf[:, :count]
        data = batch.fourier[:, :count] * shift_phases(freqs, pose.shift) * transfer
        magnification = self.pixel_size_angstrom / batch.pixel_size_angstrom
        places = freqs[:, :2] @ (pose.rotation[:, :2] * magnification[:, None, None])
        # a particle of smaller pixels knows frequencies that the volume does not have
        inside = places.square().sum(-1) <= 0.25 + 1e-6
        rows = torch.stack([data.real, data.imag, transfer.square()], dim=-1) * inside[..., None]
        self._spread(places * self._side, rows, half)

    def _spread(
        self,
        places: Float[Tensor, "batch freq 3"],
        rows: Float[Tensor, "batch freq 3"],
        half: Int64[Tensor, " batch"],
    ) -> None:
        """Spread samples (units of the grid spacing) on the half grid ``kx >= 0``."""
        mirrored = places[..., :1] < 0
        places = torch.where(mirrored, -places, places)
        conjugate = rows * rows.new_tensor([1.0, -1.0, 1.0])
        rows = torch.where(mirrored, conjugate, rows)
        corner = places.floor()
        fraction = places - corner
        corner = corner.long()
        side, _, half_side = self._shape
        sums = self._sums.view(-1, 3)
        for step in _CORNERS:
            weight = rows.new_ones(rows.shape[:-1])
            for axis, up in enumerate(step):
                weight = weight * (fraction[..., axis] if up else 1 - fraction[..., axis])
            x = (corner[..., 0] + step[0]).clamp(max=half_side - 1)  # beyond it the weight is zero
            y = (corner[..., 1] + step[1]) % side
            z = (corner[..., 2] + step[2]) % side
            index = ((half[:, None] * side + z) * side + y) * half_side + x
            sums.index_add_(0, index.flatten(), (rows * weight[..., None]).flatten(0, 1))

    def half_maps(self) -> Float[Tensor, "2 side side side"]:
        """Reconstruct each half set, in the units of :mod:`cryoem.volume`."""
        prior = self._prior() / 2  # half the images, half the weight: the scale of the union
        return torch.stack([self._solve(sums, prior) for sums in self._sums])

    def volume(self) -> Float[Tensor, "side side side"]:
        """Reconstruct from all images, in the units of :mod:`cryoem.volume`."""
        return self._solve(self._sums.sum(0), self._prior())

    def _prior(self) -> Float[Tensor, " shell"]:
        """``lambda`` of each shell of the grid for the union of the half sets."""
        shell = shell_index(self._side).flatten().to(self._sums.device)
        weight = torch.bincount(shell, self._sums[..., 2].sum(0).double())
        weight = (weight / torch.bincount(shell)).float()
        first = [self._solve(sums, 0.005 * weight) for sums in self._sums]
        curve = fsc(first[0], first[1]).correlation
        curve = np.nan_to_num(curve).clip(0.01, 0.9999)
        curve[0] = curve[1]
        shells = np.arange(len(weight)) * self.lattice.box_size / self._side
        correlation = np.interp(shells, np.arange(len(curve)), curve)
        inverse_snr = torch.from_numpy((1 - correlation) / (4 * correlation)).to(weight)
        return weight * inverse_snr

    def _solve(
        self, sums: Float[Tensor, "point 3"], prior: Float[Tensor, " shell"]
    ) -> Float[Tensor, "side side side"]:
        side = self.lattice.box_size
        grid = sums.view(*self._shape, 3)
        numerator = _complete(torch.complex(grid[..., 0], grid[..., 1]))
        weight = _complete(grid[..., 2])
        shell = shell_index(self._side).to(sums.device)
        tiny = 1e-6 * weight.mean() + torch.finfo(weight.dtype).tiny
        numerator /= weight + prior[shell] + tiny
        volume = spectrum_to_volume(numerator) * (side / self._side)
        low = self._side // 2 - side // 2
        inner = slice(low, low + side)
        return volume[inner, inner, inner] * self._envelope().to(volume)

    def _envelope(self) -> Float[Tensor, "side side side"]:
        """Divide by the transform of the trilinear kernel; keep what lies in the ball."""
        side = self.lattice.box_size
        kernel = torch.sinc((torch.arange(side) - side // 2) / self._side).square()
        return ball_mask(side) / (kernel[:, None, None] * kernel[:, None] * kernel)


_CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]


def _complete(grid: Tensor) -> Tensor:
    """Add to the planes ``kx = 0`` and Nyquist the mirror images of their samples.

    Off these planes the mirror image of a sample falls on the half of the grid that is not stored.
    """
    grid = grid.clone()
    for plane in (grid[..., 0], grid[..., -1]):
        plane += plane.flip((0, 1)).roll((1, 1), (0, 1)).conj()
    return grid


@dataclass(frozen=True)
class Backprojection:
    """Maps in the units of the file, molecule light; ``half_maps`` of disjoint sets of images."""

    volume: Float[Tensor, "side side side"]
    half_maps: Float[Tensor, "2 side side side"]
    voxel_size_angstrom: float


@torch.no_grad()
def backproject(
    source: ParticleSource,
    pose: Pose,
    preprocess: Preprocess,
    *,
    rows: Int64[Tensor, " row"] | None = None,
    use_ctf: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Backprojection:
    """Reconstruct a particle stack from given poses, on the device of ``preprocess``.

    Parameters
    ----------
    source
        The images. Half sets are those of the file, else even and odd rows.
    pose
        One per row of ``source.table``, shifts in pixels of the *file's* images.
    preprocess
        To the box of the volume, with the sign of the data.
    rows
        Rows of the table to use; all by default.
    use_ctf
        Whether to correct for the transfer function, where the table has one.
    progress
        Called with the number of images of each batch when they are done.

    Raises
    ------
    InputError
        If an image has pixels that are not finite.
    """
    table, lattice = source.table, preprocess.lattice
    device = lattice.freqs.device
    binning = preprocess.source_box / lattice.box_size
    voxel_size = source.geometry.pixel_size_angstrom * binning
    projector = Backprojector(lattice.box_size, voxel_size, lattice.radius, device)
    halves = table.half_sets()
    for raw in _read_ahead(source, torch.arange(len(table)) if rows is None else rows):
        batch = preprocess(raw.to(device))
        here = pose[raw.index].to(device)
        centred = Pose(here.rotation, here.shift / binning)
        if use_ctf and batch.ctf is not None:
            ctf = evaluate_ctf(lattice.freqs, batch.pixel_size_angstrom, batch.ctf)
        else:
            ctf = torch.ones(len(batch), lattice.n_freqs, device=device)
        projector.add(batch, centred, ctf, halves[raw.index].to(device))
        if progress is not None:
            progress(len(batch))
    unit = abs(preprocess.scale)
    volume, half_maps = projector.volume() / unit, projector.half_maps() / unit
    return Backprojection(volume.cpu(), half_maps.cpu(), voxel_size)


def _read_ahead(source: ParticleSource, rows: Int64[Tensor, " row"]) -> Iterator[RawBatch]:
    """Read batches of about 2^20 pixels in order, one ahead of what is being worked on."""
    size = max(1, (1 << 20) // source.geometry.box_size**2)
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for index in rows.split(size):
            following = reader.submit(_read, source, index)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _read(source: ParticleSource, index: Int64[Tensor, " batch"]) -> RawBatch:
    images = source.read(index)
    check_finite(images, index, source.table)
    check_varied(images, index, source.table)
    pixel_size = torch.from_numpy(source.table.pixel_size_angstrom[index.numpy()]).float()
    ctf = None if source.table.ctf is None else source.table.ctf[index]
    return RawBatch(index, images, pixel_size, ctf)
