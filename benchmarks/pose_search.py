"""Speed of a pose search: images per second, work per image, share of the machine's GEMM rate.

``python -m benchmarks.pose_search [--threads 1] [--images 64] [--device cpu]`` searches simulated
images of an analytic phantom, 64 pixels wide, with CTF and an SNR of 0.1, on the grids of the
original's defaults: 4,608 rotations times 196 shifts within a radius of 12, then 4 levels with 8
kept, up to a radius of 32. Once for a homogeneous volume, and once for images whose volumes differ
by 8 latents, which are given.

``--original PYTHON [--timed 16]``, a Python in whose environment cryoDRGN 4.3 is installed, adds
its two searches on the same images: some of them (ten seconds each) under its own network of 256 x
3, for the time; and all under the true volume in the place of the network, interpolated from the
very grid that our search uses, for the error.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryoem.batch import CTFParams
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.phantom import random_phantom
from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.memory import search_memory_bytes
from cryoem.poses.scores import SearchImages
from cryoem.poses.search import PoseSearch
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import VolumeCache, cache_volume
from cryoem.rotations import angle_between, random_rotations

BOX, SNR, RADII, N_KEEP, N_LATENTS = 64, 0.1, (12, 17, 22, 27, 32), 8, 8
N_SHIFTS, N_ROTATIONS, N_DIRECTIONS = 196, 4608, 192  # of level 0
COMPONENT = 0.2  # of a latent: its amplitude beside that of the mean volume
ORIGINAL_FEATURES = {"old": 192, "ai": 384}  # of a point, without latents
ORIGINAL_BATCH = 16


@dataclass(frozen=True)
class Data:
    """Images, the poses they were made at, and the volume."""

    images: SearchImages
    rotation: Tensor
    shift: Tensor
    cache: VolumeCache


@dataclass(frozen=True)
class Found:
    """Poses of a search, the seconds of the processor and of the clock, and the work it did."""

    name: str
    rotation: Tensor
    shift: Tensor
    processor: float
    wall: float
    gigaflop: float  # of an image
    true_volume: bool = True

    def row(self, data: Data, rate: float, ours: "Found") -> str:
        """One line of the table; errors only of searches under the true volume."""
        n = len(self.rotation)
        error = ""
        if self.true_volume:
            angle = angle_between(self.rotation, data.rotation[:n]).median()
            shift = (self.shift - data.shift[:n]).norm(dim=-1).median()
            error = f"{float(angle):6.2f} {float(shift):6.2f}"
        share = 100 * self.gigaflop * self.speed / rate
        return (
            f"{self.name:34s} {n:6d} {self.speed:9.3f} {n / self.wall:9.3f}"
            f" {ours.speed / self.speed:6.1f} {self.gigaflop:9.2f} {share:6.0f} {error}"
        )

    @property
    def speed(self) -> float:
        """Images per second of the processor."""
        return len(self.rotation) / self.processor


HEADER = (
    f"{'search':34s} {'images':>6s} {'im./CPU-s':>9s} {'im./s':>9s} {'ours x':>6s}"
    f" {'GFLOP/im.':>9s} {'% GEMM':>6s} {'deg':>6s} {'pixels':>6s}"
)


def simulate(lattice: FourierLattice, n: int, n_latents: int, device: torch.device) -> Data:
    """Images of ``V_0 + sum_j z_j V_j``, where all the volumes are phantoms."""
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotations(n, generator).float().to(device)
    shift = (10 * torch.rand(n, 2, generator=generator) - 5).to(device)
    weights = torch.randn(n, 1 + n_latents, generator=generator) * COMPONENT
    weights[:, 0] = 1
    volumes = [random_phantom(100, 0.3 * BOX, 1.5, BOX, generator) for _ in weights.T]
    volumes = [volume.to(device) for volume in volumes]
    weights = weights.to(device)
    points = lattice.freqs[:, :2] @ rotation[:, :2]
    slices = sum(w[:, None] * volume(points) for w, volume in zip(weights.T, volumes, strict=True))
    transfer = _transfer(lattice, n, generator)
    scale = (SNR / (transfer * slices).abs().square().mean()).sqrt()
    noise = torch.view_as_complex(torch.randn(*slices.shape, 2, generator=generator)) / 2**0.5
    fourier = scale * transfer * slices * shift_phases(lattice.freqs, -shift) + noise.to(device)
    for volume in volumes:
        volume.weights *= scale
    caches = [cache_volume(volume, BOX, RADII[-1], device) for volume in volumes]
    grid = torch.cat([cache.grid for cache in caches], -1)
    if not n_latents:
        return Data(SearchImages(fourier, transfer), rotation, shift, caches[0])
    cache = VolumeCache(grid, BOX, caches[0].padding)
    return Data(SearchImages(fourier, transfer, weights), rotation, shift, cache)


def _transfer(lattice: FourierLattice, n: int, generator: torch.Generator) -> Tensor:
    one = torch.ones(n)
    defocus = 10_000 + 10_000 * torch.rand(n, generator=generator)
    params = CTFParams(
        defocus, defocus - 500, 90 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one, one
    )
    device = lattice.freqs.device
    return evaluate_ctf(lattice.freqs, 3.0 * one.to(device), params.to(device))


def seconds(device: torch.device, function: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, all threads, and of the clock; both of the clock on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    processor, wall = time.process_time(), time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    elapsed = time.perf_counter() - wall
    return (time.process_time() - processor if device.type == "cpu" else elapsed), elapsed


def gemm_rate(device: torch.device, depth: int) -> float:
    """GFLOP per second of the float32 product of level 0, four images at a time."""
    a = torch.randn(N_ROTATIONS, depth, device=device)
    b = torch.randn(4 * N_SHIFTS, depth, device=device)
    a @ b.T
    best = min(seconds(device, lambda: a @ b.T)[0] for _ in range(3))
    return 2e-9 * len(a) * len(b) * depth / best


def our_search(name: str, data: Data, lattice: FourierLattice, dtype: torch.dtype) -> Found:
    """Search from the top; slices of level 0, which all images share, were made before."""
    device = lattice.freqs.device
    memory = search_memory_bytes(device)
    space = SearchSpace(data.cache, lattice, RotationGrid(2), ShiftGrid(10.0, 14), RADII, memory)
    search = PoseSearch(space, n_keep=N_KEEP, coarse_dtype=dtype)
    search(data.images[:4])
    spent = seconds(device, lambda: search(data.images))
    pose = search(data.images).pose
    return Found(name, pose.rotation, pose.shift, *spent, our_work(space))


def our_work(space: SearchSpace) -> float:
    """GFLOP for an image: sums of components, products of level 0, and the levels below it."""
    components = space.cache.n_components
    base = 4 * N_ROTATIONS * N_SHIFTS * space.count(0)
    if components > 1:
        base += 4 * components * (N_ROTATIONS * space.count(0) + space.cache.grid[..., 0].numel())
    per_point = 16 * 2 + 6 + 4 * 16 + 4  # 8 corners; times image; 16 shifts; power
    points = sum(8 * N_KEEP * space.count(level) for level in range(1, space.last + 1))
    return 1e-9 * (base + per_point * points)


def original_work(lattice: FourierLattice, name: str, n_latents: int, network: bool) -> float:
    """GFLOP for an image: points through the network or 8 corners each, and the products."""
    width, layers = 256, 3
    n_points = [2 * lattice.count(radius) for radius in RADII]  # the whole disc
    per_point = 16 * (1 + n_latents)
    if network:
        n_inputs = ORIGINAL_FEATURES[name] + n_latents
        per_point = 2 * (n_inputs * width + layers * width**2 + width)
    base = (
        N_DIRECTIONS * n_points[0] / (1 if n_latents else ORIGINAL_BATCH)
    )  # else shared by a batch
    points = base + 8 * N_KEEP * sum(n_points[1:])
    products = 2 * N_SHIFTS * (N_ROTATIONS * n_points[0] + 8 * N_KEEP * sum(n_points[1:]))
    return 1e-9 * (per_point * points + products)


def hand_over(data: Data, lattice: FourierLattice, path: Path) -> None:
    """Write images, CTF and volume as Hartley transforms, all of the square with both its edges."""
    side = BOX + 1
    column, row = (lattice.freqs[:, :2].T * BOX).round().long().cpu() + BOX // 2
    index = row * side + column

    def whole(there: Tensor, opposite: Tensor) -> np.ndarray:
        square = torch.zeros(len(there), side * side)
        square[:, index], square[:, side * side - 1 - index] = there.cpu(), opposite.cpu()
        return square.unflatten(1, (side, side)).numpy()

    fourier, transfer, weights = data.images.fourier, data.images.transfer, data.images.coefficients
    parts = data.cache.grid.unflatten(-1, (-1, 2))
    np.savez(
        path,
        images=whole(fourier.real - fourier.imag, fourier.real + fourier.imag),
        transfer=whole(transfer, transfer),
        z=np.zeros((len(fourier), 0), np.float32) if weights is None else weights[:, 1:].cpu(),
        grid=(parts[..., 0] - parts[..., 1]).cpu(),
        steps=data.cache.padding * BOX / (data.cache.grid.shape[0] // 2),
    )


def originals(
    python: str, data: Data, lattice: FourierLattice, threads: int, n_timed: int
) -> list[Found]:
    """Both searches of the original, each under both volumes."""
    script = Path(__file__).with_name("pose_search_original.py")
    with tempfile.TemporaryDirectory() as folder:
        hand_over(data, lattice, Path(folder) / "searched.npz")
        subprocess.run([python, str(script), folder, str(threads), str(n_timed)], check=True)
        with np.load(Path(folder) / "found.npz") as file:
            results = dict(file)
    weights = data.images.coefficients
    n_latents = 0 if weights is None else weights.shape[1] - 1
    device, found = lattice.freqs.device, []
    names = {"old": "abinit_het_old" if n_latents else "abinit_homo_old", "ai": "abinit"}
    labels = {"network": "its network", "volume": "the true volume"}
    for (key, name), (kind, label) in product(names.items(), labels.items()):
        pose = [results[f"{key}_{kind}_{x}"] for x in ("rotation", "shift")]
        rotation, shift = (torch.from_numpy(x).to(device) for x in pose)
        processor, wall = map(float, results[f"{key}_{kind}_seconds"])
        work = original_work(lattice, key, n_latents, kind == "network")
        true = kind == "volume"
        found.append(Found(f"{name}, {label}", rotation, shift, processor, wall, work, true))
    return found


def report(options: argparse.Namespace, lattice: FourierLattice, n_latents: int) -> None:
    """Print the lines of one kind of volume."""
    device = lattice.freqs.device
    data = simulate(lattice, options.images, n_latents, device)
    kind = f"{n_latents} latents" if n_latents else "homogeneous"
    ours = our_search(f"ours, {kind}", data, lattice, torch.float32)
    rate = gemm_rate(device, 2 * lattice.count(RADII[0]))
    print(f"{kind}; GEMM {rate:.0f} GFLOP/s\n{HEADER}\n{ours.row(data, rate, ours)}", flush=True)
    half = our_search("ours, bfloat16 product of level 0", data, lattice, torch.bfloat16)
    print(half.row(data, rate, ours), flush=True)
    if options.original:
        for other in originals(options.original, data, lattice, options.threads, options.timed):
            print(other.row(data, rate, ours), flush=True)


def main() -> None:
    """Print a line per search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--timed", type=int, default=ORIGINAL_BATCH, help="images under the original's own network"
    )
    parser.add_argument("--original", metavar="PYTHON", help="of an environment with cryoDRGN 4.3")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lattice = FourierLattice(BOX).to(torch.device(options.device))
    for n_latents in (0, N_LATENTS):
        report(options, lattice, n_latents)


if __name__ == "__main__":
    main()
