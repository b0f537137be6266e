"""A phantom, its images at known poses, and a search under the phantom itself."""

from dataclasses import dataclass

import torch

from cryoem.batch import CTFParams, Pose
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import cache_volume
from cryoem.rotations import random_rotations

CPU = torch.device("cpu")


@dataclass(frozen=True)
class SearchedPhantom:
    """``fourier`` and ``transfer`` are what a search is given."""

    phantom: GaussianPhantom
    lattice: FourierLattice
    pose: Pose
    fourier: torch.Tensor
    transfer: torch.Tensor


def make_phantom(box_size: int, signal: float, seed: int = 0) -> GaussianPhantom:
    """Blobs of which a slice holds about ``signal`` nats."""
    generator = torch.Generator().manual_seed(seed)
    phantom = random_phantom(14, 0.32 * box_size, 0.07 * box_size, box_size, generator)
    freqs = FourierLattice(box_size).freqs
    power = phantom(freqs).abs().square().sum()
    phantom.weights *= (signal / power).sqrt()
    return phantom


def astigmatic_ctf(lattice: FourierLattice, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    one = torch.ones(n)
    defocus = 8000 + 6000 * torch.rand(n, generator=generator)
    angle = 180 * torch.rand(n, generator=generator)
    params = CTFParams(
        defocus, defocus - 4000, angle, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one, one
    )
    return evaluate_ctf(lattice.freqs, torch.full((n,), 4.0), params)


def simulate(
    phantom: GaussianPhantom,
    lattice: FourierLattice,
    pose: Pose,
    transfer: torch.Tensor | None = None,
    noise: float = 0.0,
    seed: int = 1,
) -> SearchedPhantom:
    """Images by the closed form of the phantom, with white noise of a standard deviation."""
    slices = phantom(lattice.freqs[:, :2] @ pose.rotation[:, :2])
    transfer = torch.ones(slices.shape) if transfer is None else transfer
    images = transfer * slices * shift_phases(lattice.freqs, -pose.shift)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(*images.shape, 2, generator=generator) / 2**0.5
    images = images + noise * torch.view_as_complex(white)
    return SearchedPhantom(phantom, lattice, pose, images, transfer)


def random_poses(n: int, extent: float, seed: int = 2) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    shift = extent * (2 * torch.rand(n, 2, generator=generator) - 1)
    return Pose(random_rotations(n, generator).float(), shift)


def grid_poses(space: SearchSpace, n: int, seed: int = 3) -> Pose:
    """Random poses of the finest grid."""
    generator = torch.Generator().manual_seed(seed)
    cells = space.rotations.all(space.last)
    squares = space.all_squares(space.last)
    cells = cells[torch.randint(len(cells), (n,), generator=generator)]
    squares = squares[torch.randint(len(squares), (n,), generator=generator)]
    shift = space.shifts.shifts(squares, space.last)
    return Pose(space.matrices(cells, space.last), shift)


def make_space(
    phantom: GaussianPhantom,
    lattice: FourierLattice,
    order: int = 1,
    radii: tuple[int, ...] = (4, 5, 7),
    shifts: ShiftGrid | None = None,
    symmetry: str = "C1",
    memory_bytes: int = 1 << 25,
) -> SearchSpace:
    cache = cache_volume(phantom, lattice.box_size, lattice.radius, CPU)
    grid = RotationGrid(order, symmetry)
    return SearchSpace(cache, lattice, grid, shifts or ShiftGrid(2.0, 4), radii, memory_bytes)
