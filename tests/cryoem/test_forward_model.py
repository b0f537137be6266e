"""Image formation as a whole, against images of the phantom that are made in real space."""

import pytest
import torch

from cryoem.batch import CTFParams, ParticleBatch
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.forward_model import ForwardModel
from cryoem.lattice import FourierLattice
from cryoem.rotations import random_rotations

SIDE, PIXEL = 32, 2.0


@pytest.fixture
def phantom() -> GaussianPhantom:
    return random_phantom(10, 7.0, 1.5, SIDE, torch.Generator().manual_seed(0))


@pytest.fixture
def model(phantom) -> ForwardModel:
    return ForwardModel(phantom, FourierLattice(SIDE, 15), PIXEL)


@pytest.fixture
def rotation() -> torch.Tensor:
    return random_rotations(4, torch.Generator().manual_seed(1)).float()


def projection(phantom: GaussianPhantom, rotation: torch.Tensor, magnify: float = 1.0, move=(0, 0)):
    """Real-space image of the rotated, magnified and moved phantom: plain sum along z."""
    centres = magnify * phantom.centres @ rotation.T + torch.tensor([*move, 0.0])
    blobs = GaussianPhantom(centres, phantom.weights, magnify * phantom.sigma, SIDE)
    return blobs.density().sum(0)


def pixels(n: int, size: float = PIXEL) -> torch.Tensor:
    return torch.full((n,), size)


def ctf(n: int) -> CTFParams:
    def same(value: float) -> torch.Tensor:
        return torch.full((n,), value)

    return CTFParams(
        torch.linspace(8000.0, 20000.0, n),
        torch.linspace(9000.0, 21000.0, n),
        torch.linspace(0.0, 150.0, n),
        *(same(v) for v in (300.0, 2.7, 0.1, 0.0, 0.0, 1.0)),
    )


def test_slices_are_the_transforms_of_the_projections(model, phantom, rotation):
    images = torch.stack([projection(phantom, r) for r in rotation])
    slices = model.slices(rotation, pixels(4))
    torch.testing.assert_close(slices, model.lattice.gather(images), rtol=0, atol=5e-5)


def test_rotating_the_slice_is_rotating_the_phantom(model, phantom, rotation):
    for r in rotation:
        turned = GaussianPhantom(phantom.centres @ r.T, phantom.weights, phantom.sigma, SIDE)
        torch.testing.assert_close(
            model.slices(r[None], pixels(1))[0], turned(model.lattice.freqs), rtol=0, atol=1e-5
        )


def test_a_particle_with_larger_pixels_is_smaller_in_its_image(model, phantom, rotation):
    sizes = torch.tensor([2.0, 1.9, 2.1, 2.5])
    images = torch.stack(
        [projection(phantom, r, PIXEL / float(p)) for r, p in zip(rotation, sizes, strict=True)]
    )
    slices = model.slices(rotation, sizes)
    inner = model.lattice.radii < 13  # the shrunken blobs reach Nyquist
    error = (slices - model.lattice.gather(images))[:, inner].abs().max()
    assert float(error) < 1e-3
    wrong = model.slices(rotation, pixels(4)) - model.lattice.gather(images)
    assert float(wrong[3].abs().max()) > 0.05


def test_a_displaced_particle_is_centred_by_the_shift_that_brings_it_back(model, phantom, rotation):
    moves = torch.tensor([[3.0, 0.0], [0.0, -2.5], [1.3, 2.2], [-4.0, 1.0]])
    images = torch.stack(
        [projection(phantom, r, move=m.tolist()) for r, m in zip(rotation, moves, strict=True)]
    )
    batch = ParticleBatch(torch.arange(4), model.lattice.gather(images), pixels(4))
    centred = model.observed(batch, -moves)
    torch.testing.assert_close(centred, model.slices(rotation, pixels(4)), rtol=0, atol=1e-4)


def test_the_transfer_is_the_ctf_of_each_image_at_its_own_pixel_size(model):
    sizes = torch.tensor([2.0, 1.9, 2.1])
    empty = torch.zeros(3, model.lattice.n_freqs, dtype=torch.complex64)
    batch = ParticleBatch(torch.arange(3), empty, sizes, ctf(3))
    expected = evaluate_ctf(model.lattice.freqs, sizes, ctf(3))
    torch.testing.assert_close(model.transfer(batch), expected)


def test_particles_without_ctf_are_plain_projections(model):
    empty = torch.zeros(3, model.lattice.n_freqs, dtype=torch.complex64)
    assert bool((model.transfer(ParticleBatch(torch.arange(3), empty, pixels(3))) == 1).all())


def test_a_smaller_radius_gives_the_first_points_of_the_full_disc(model, rotation):
    count = model.lattice.count(6)
    full, small = model.slices(rotation, pixels(4)), model.slices(rotation, pixels(4), radius=6)
    torch.testing.assert_close(small, full[:, :count])
    batch = ParticleBatch(torch.arange(4), full, pixels(4), ctf(4))
    shift = torch.ones(4, 2)
    torch.testing.assert_close(
        model.observed(batch, shift, 6), model.observed(batch, shift)[:, :count]
    )
    torch.testing.assert_close(model.transfer(batch, 6), model.transfer(batch)[:, :count])
