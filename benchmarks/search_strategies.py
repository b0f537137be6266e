"""What branch and bound prunes, and how often it and a beam find the optimum of all poses.

``python -m benchmarks.search_strategies [--images 16]`` makes images of a phantom, 24 pixels wide,
with more and more noise, and searches each in all ways under the phantom itself: all rotations of
three levels (30 to 7.5 degrees) with all shifts. "Agree": the pose is that of the exhaustive
search. "Pruned": share of the poses of the finest grid that were not scored, on average.
"""

import argparse
import time

import torch

from cryoem.batch import Pose
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.scores import SearchImages
from cryoem.poses.search import PoseSearch
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import cache_volume
from cryoem.rotations import angle_between, random_rotations

BOX, RADII, EXTENT = 24, (4, 7, 11), 2.0
NATS = (100_000, 3000, 1000, 300)  # of signal in an image
STRATEGIES = {
    "beam": {"strategy": "beam"},
    "bound, delta 0": {"strategy": "branch_and_bound", "delta": 0.0},
    "bound, delta 0.001": {"strategy": "branch_and_bound", "delta": 1e-3},
}


def simulate(phantom: GaussianPhantom, lattice: FourierLattice, n: int) -> SearchImages:
    """Images at random poses with white noise of unit variance, without CTF."""
    generator = torch.Generator().manual_seed(1)
    rotation = random_rotations(n, generator).float()
    shift = EXTENT * (2 * torch.rand(n, 2, generator=generator) - 1)
    pose = Pose(rotation, shift)
    slices = phantom(lattice.freqs[:, :2] @ pose.rotation[:, :2])
    noise = torch.view_as_complex(torch.randn(*slices.shape, 2, generator=generator)) / 2**0.5
    images = slices * shift_phases(lattice.freqs, -pose.shift) + noise
    return SearchImages(images, torch.ones(images.shape))


def compare(nats: float, n: int) -> None:
    """Print a line for each strategy."""
    lattice = FourierLattice(BOX, RADII[-1])
    phantom = random_phantom(14, 0.32 * BOX, 0.07 * BOX, BOX, torch.Generator().manual_seed(0))
    power = phantom(lattice.freqs).abs().square().sum()
    phantom.weights *= (nats / power).sqrt()
    cache = cache_volume(phantom, BOX, RADII[-1], torch.device("cpu"))
    space = SearchSpace(cache, lattice, RotationGrid(1), ShiftGrid(EXTENT, 4), RADII, 1 << 28)
    images = simulate(phantom, lattice, n)
    best = PoseSearch(space, "exhaustive")(images).pose
    for name, options in STRATEGIES.items():
        began = time.process_time()
        found = PoseSearch(space, **options)(images)
        ms = 1e3 * (time.process_time() - began) / n
        same_shift = (found.pose.shift == best.shift).all(-1)
        agree = int((same_shift & (angle_between(found.pose.rotation, best.rotation) < 0.1)).sum())
        pruned = 100 * float(found.fraction_pruned.mean())
        print(f"{nats:8g} {name:20s} {agree:4d} of {n:<4d} {pruned:8.3f} % {ms:10.1f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    args = parser.parse_args()
    print(f"{'nats':>8s} {'search':20s} {'agree':>12s} {'pruned':>10s} {'CPU ms/im.':>10s}")
    for nats in NATS:
        compare(nats, args.images)


if __name__ == "__main__":
    main()
