"""The analytic phantom: its transform is that of its density."""

import pytest
import torch

from cryoem.decoders.base import Decoder
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.lattice import FourierLattice
from cryoem.rotations import random_rotations
from cryoem.volume import half_grid, volume_to_spectrum


@pytest.fixture
def phantom() -> GaussianPhantom:
    """Blobs of 1.5 pixels: 1e-5 of their amplitude is beyond Nyquist."""
    return random_phantom(12, 8.0, 1.5, 32, torch.Generator().manual_seed(0))


def turned(phantom: GaussianPhantom, rotation: torch.Tensor) -> GaussianPhantom:
    """The same blobs seen along z after an active rotation of the molecule."""
    centres = phantom.centres @ rotation.T
    return GaussianPhantom(centres, phantom.weights, phantom.sigma, phantom.box_size)


def test_the_phantom_is_a_decoder(phantom):
    assert isinstance(phantom, Decoder)


def test_its_transform_is_the_transform_of_its_density(phantom):
    spectrum = volume_to_spectrum(phantom.density())
    expected = phantom(half_grid(32).flatten(0, 2)).reshape(spectrum.shape)
    inside = half_grid(32).norm(dim=-1) < 0.5
    torch.testing.assert_close(spectrum[inside], expected[inside], rtol=0, atol=2e-5)


def test_a_slice_is_the_transform_of_the_projection(phantom):
    lattice = FourierLattice(32, 15)
    projection = phantom.density().sum(0)  # along z
    torch.testing.assert_close(
        phantom(lattice.freqs), lattice.gather(projection), rtol=0, atol=2e-5
    )


def test_a_rotated_slice_is_the_transform_of_the_projection_of_the_rotated_molecule(phantom):
    lattice = FourierLattice(32, 15)
    for rotation in random_rotations(3, torch.Generator().manual_seed(1)).float():
        projection = turned(phantom, rotation).density().sum(0)
        slice_ = phantom(lattice.freqs @ rotation)
        torch.testing.assert_close(slice_, lattice.gather(projection), rtol=0, atol=5e-5)
        wrong = phantom(lattice.freqs @ rotation.T)
        assert float((wrong - slice_).abs().max()) > 0.02


def test_the_density_integrates_to_the_weights_and_is_centred_on_them(phantom):
    density = phantom.density().double()
    total = float(phantom.weights.sum())
    assert float(density.sum()) == pytest.approx(total, rel=1e-5)
    axis = torch.arange(32).double() - 16
    centre = torch.stack(
        [(density * shape).sum() for shape in (axis, axis[:, None], axis[:, None, None])]
    )
    expected = (phantom.weights @ phantom.centres).double()
    torch.testing.assert_close(centre, expected, rtol=0, atol=1e-3)


def test_the_density_is_real_so_its_transform_has_friedel_symmetry(phantom):
    freqs = torch.rand(50, 3, generator=torch.Generator().manual_seed(2)) - 0.5
    torch.testing.assert_close(phantom(-freqs), phantom(freqs).conj())


def test_the_phantom_is_chiral(phantom):
    """Its mirror image is another molecule, so tests of the hand mean something."""
    centred = phantom.centres - phantom.centres.mean(0)
    triple = torch.linalg.det(centred[:3]) * torch.linalg.det(centred[3:6])
    assert abs(float(triple)) > 1e-3
    spread = torch.linalg.eigvalsh(centred.T @ centred)
    assert bool((spread.diff() > 1.0).all())  # no axis of symmetry
