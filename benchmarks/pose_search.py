"""Speed of a pose search: images per second, work per image, share of the machine's GEMM rate.

``python -m benchmarks.pose_search [--threads 1] [--images 64] [--device cpu]`` searches simulated
images of an analytic phantom, 64 pixels wide, with CTF and an SNR of 0.1, on the grids of the
original's defaults: 4,608 rotations times 196 shifts within a radius of 12, then 4 levels with 8
kept, up to a radius of 32. Once for a homogeneous volume, and once for one with 8 latents.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryoem.batch import CTFParams
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.phantom import random_phantom
from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.scores import SearchImages
from cryoem.poses.search import PoseSearch
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import VolumeCache, cache_volume
from cryoem.rotations import angle_between, random_rotations

BOX, SNR, RADII, N_KEEP, N_LATENTS = 64, 0.1, (12, 17, 22, 27, 32), 8, 8


@dataclass(frozen=True)
class Data:
    """Images, the poses they were made at, and the volume."""

    images: SearchImages
    rotation: Tensor
    shift: Tensor
    cache: VolumeCache


def simulate(lattice: FourierLattice, n: int, device: torch.device) -> Data:
    generator = torch.Generator().manual_seed(0)
    phantom = random_phantom(100, 0.3 * BOX, 1.5, BOX, generator).to(device)
    rotation = random_rotations(n, generator).float().to(device)
    shift = (10 * torch.rand(n, 2, generator=generator) - 5).to(device)
    one = torch.ones(n)
    defocus = 10_000 + 10_000 * torch.rand(n, generator=generator)
    params = CTFParams(
        defocus, defocus - 500, 90 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one, one
    )
    transfer = evaluate_ctf(lattice.freqs, 3.0 * one.to(device), params.to(device))
    slices = phantom(lattice.freqs[:, :2] @ rotation[:, :2])
    power = (transfer * slices).abs().square().mean()
    phantom.weights *= (SNR / power).sqrt()
    centred = transfer * slices * (SNR / power).sqrt()
    noise = torch.view_as_complex(torch.randn(*centred.shape, 2, generator=generator)) / 2**0.5
    fourier = centred * shift_phases(lattice.freqs, -shift) + noise.to(device)
    cache = cache_volume(phantom, BOX, RADII[-1], device)
    return Data(SearchImages(fourier, transfer), rotation, shift, cache)


def with_latents(data: Data) -> Data:
    """The same images under a volume of which each has its own, slightly different copy."""
    n_images = len(data.images)
    generator = torch.Generator().manual_seed(1)
    latents = 0.02 * torch.randn(n_images, N_LATENTS, generator=generator)
    grid = data.cache.grid.repeat(1, 1, 1, 1 + N_LATENTS)
    cache = VolumeCache(grid, BOX, data.cache.padding, lambda z: torch.cat([one(z), z], 1))
    coefficients = torch.cat([one(latents), latents], 1).to(data.rotation.device)
    images = SearchImages(data.images.fourier, data.images.transfer, coefficients)
    return Data(images, data.rotation, data.shift, cache)


def one(z: Tensor) -> Tensor:
    return torch.ones_like(z[:, :1])


def seconds(device: torch.device, function: Callable[[], object]) -> float:
    """Processor time on a CPU, all threads, so that other work on the machine counts little."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def gemm_rate(device: torch.device, rows: int, columns: int, depth: int) -> float:
    """GFLOP per second of the float32 product of a size."""
    a, b = torch.randn(rows, depth, device=device), torch.randn(columns, depth, device=device)
    a @ b.T
    best = min(seconds(device, lambda: a @ b.T) for _ in range(3))
    return 2e-9 * rows * columns * depth / best


def gigaflop(space: SearchSpace) -> tuple[float, float]:
    """Products and interpolation of one image: level 0, and the levels below it."""
    components = space.cache.n_components
    n_rotations, n_shifts = len(space.rotations.all(0)), space.shifts.count(0) ** 2
    base = 4 * n_rotations * n_shifts * space.count(0)
    if components > 1:
        base += 4 * components * n_rotations * space.count(0)
    per_point = 16 * 2 * components + 6 + 4 * 16 + 4  # 8 corners; times image; 16 shifts; power
    points = sum(8 * N_KEEP * space.count(level) for level in range(1, space.last + 1))
    return 1e-9 * base, 1e-9 * per_point * points


def report(name: str, data: Data, lattice: FourierLattice, dtype: torch.dtype) -> None:
    device = lattice.freqs.device
    memory = 1 << 26 if device.type == "cpu" else 1 << 32
    shifts = ShiftGrid(10.0, 14)
    space = SearchSpace(data.cache, lattice, RotationGrid(2), shifts, RADII, memory)
    search = PoseSearch(space, n_keep=N_KEEP, coarse_dtype=dtype)
    result = search(data.images[:4])  # makes the slices that all images share
    spent = seconds(device, lambda: search(data.images))
    result = search(data.images)
    angle = angle_between(result.pose.rotation, data.rotation)
    shift = (result.pose.shift - data.shift).norm(dim=-1)
    base, fine = gigaflop(space)
    rate = gemm_rate(device, len(search.space.rotations.all(0)), 196 * 4, 2 * space.count(0))
    n = len(data.images)
    print(
        f"{name:34s} {n / spent:8.1f} {1e3 * spent / n:8.1f} {base + fine:9.2f}"
        f" {100 * (base + fine) * n / spent / rate:8.0f} {rate:9.0f}"
        f" {float(angle.median()):9.2f} {float(shift.median()):8.2f}",
        flush=True,
    )


def main() -> None:
    """Print a line per search; seconds are those of the processor, of all threads together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    lattice = FourierLattice(BOX).to(device)
    data = simulate(lattice, options.images, device)
    print(
        f"{'search':34s} {'images/s':>8s} {'ms/image':>8s} {'GFLOP/im.':>9s} {'% GEMM':>8s}"
        f" {'GFLOP/s':>9s} {'deg':>9s} {'pixels':>8s}"
    )
    report("homogeneous", data, lattice, torch.float32)
    report("homogeneous, bfloat16 level 0", data, lattice, torch.bfloat16)
    report("8 latents, linear", with_latents(data), lattice, torch.float32)


if __name__ == "__main__":
    main()
