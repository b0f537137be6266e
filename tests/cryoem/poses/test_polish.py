"""Poses next to the true ones are moved to where the error is least."""

import math
from dataclasses import replace

import torch
from searched_phantom import astigmatic_ctf, make_phantom, random_poses, simulate

from cryoem.batch import Pose
from cryoem.decoders.phantom import GaussianPhantom
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.polish import Polisher
from cryoem.poses.scores import SearchImages
from cryoem.poses.volume_cache import VolumeCache, cache_volume
from cryoem.rotations import angle_between, random_rotations, small_rotation

LATTICE = FourierLattice(32, 15)
CPU = torch.device("cpu")
N = 40


def beside(pose: Pose, degrees: float, pixels: float) -> Pose:
    """Poses that far from others, each in a direction of its own."""
    generator = torch.Generator().manual_seed(7)
    axis = torch.nn.functional.normalize(torch.randn(len(pose), 3, generator=generator), dim=1)
    off = torch.nn.functional.normalize(torch.randn(len(pose), 2, generator=generator), dim=1)
    turned = small_rotation(math.radians(degrees) * axis) @ pose.rotation
    return Pose(turned, pose.shift + pixels * off)


def test_without_noise_the_true_pose_is_found_to_a_few_hundredths_of_a_pixel() -> None:
    phantom = make_phantom(32, 400.0)
    truth = random_poses(N, 2.0)
    data = simulate(phantom, LATTICE, truth, astigmatic_ctf(LATTICE, N))
    polisher = Polisher(cache_volume(phantom, 32, 15, CPU), LATTICE.freqs)
    found, _, gain = polisher(SearchImages(data.fourier, data.transfer), beside(truth, 2.0, 0.3))
    angle = angle_between(found.rotation, truth.rotation)
    # a Fourier pixel at the edge is 3.8 degrees; interpolation of the cache limits what is reached
    assert angle.median() < 0.04 * 3.8
    assert angle.max() < 0.5
    assert (found.shift - truth.shift).norm(dim=1).max() < 0.02
    assert (gain > 0).all()


def error(data, volume, pose: Pose) -> torch.Tensor:
    """From the definition, with the closed form of the volume."""
    slices = volume(LATTICE.freqs[:, :2] @ pose.rotation[:, :2])
    model = data.transfer * slices * shift_phases(LATTICE.freqs, -pose.shift)
    return (model - data.fourier).abs().square().sum(-1)


def test_with_noise_nothing_near_is_better() -> None:
    phantom = make_phantom(32, 400.0)
    truth = random_poses(N, 2.0)
    data = simulate(phantom, LATTICE, truth, astigmatic_ctf(LATTICE, N), noise=1.0)
    polisher = Polisher(cache_volume(phantom, 32, 15, CPU), LATTICE.freqs)
    start = beside(truth, 1.0, 0.2)
    found, _, gain = polisher(SearchImages(data.fourier, data.transfer), start)
    reached = error(data, phantom, found)
    torch.testing.assert_close(gain, error(data, phantom, start) - reached, rtol=0.1, atol=0.5)
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        turn = math.radians(0.5) * torch.randn(N, 3, generator=generator)
        shift = 0.1 * torch.randn(N, 2, generator=generator)
        other = Pose(small_rotation(turn) @ found.rotation, found.shift + shift)
        assert (error(data, phantom, other) > reached - 1.0).all()  # but for interpolation


def test_a_latent_does_not_pass_for_a_turn() -> None:
    """A component that looks like a turn of the mean, and images with different latents."""
    phantom = make_phantom(32, 400.0)
    mean = cache_volume(phantom, 32, 15, CPU)
    turn = small_rotation(torch.tensor([0.0, 0.0, math.radians(4.0)]))
    turned = GaussianPhantom(phantom.centres @ turn.T, phantom.weights, phantom.sigma, 32)
    component = cache_volume(turned, 32, 15, CPU).grid - mean.grid
    cache = VolumeCache(
        torch.cat([mean.grid, component], -1), 32, mean.padding, lambda z: z, n_latents=1
    )
    truth = Pose(random_rotations(N, torch.Generator().manual_seed(1)).float(), torch.zeros(N, 2))
    ones = torch.ones(N, LATTICE.n_freqs)
    z = torch.linspace(-1.5, 1.5, N)
    components = cache.slices(truth.rotation, LATTICE.freqs)
    images = 30 * (components[:, 0] + z[:, None] * components[:, 1])
    loud = replace(cache, grid=30 * cache.grid)
    assumed = torch.stack([torch.ones(N), torch.zeros(N)], 1)
    found = {}
    for name, n_latents in (("joint", 1), ("fixed", 0)):
        polisher = Polisher(replace(loud, n_latents=n_latents), LATTICE.freqs)
        pose, _, _ = polisher(SearchImages(images, ones, assumed), truth)
        found[name] = angle_between(pose.rotation, truth.rotation)
    assert found["fixed"].median() > 1
    assert found["joint"].median() < 0.2
