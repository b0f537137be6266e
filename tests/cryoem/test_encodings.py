"""Positional encodings and the network that uses them."""

import math

import pytest
import torch

from cryoem.decoders.base import Decoder, to_half_space
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.nets.encodings import ENCODINGS, PositionalEncoding

D = 64

# lowest and highest angular frequency per axis, radians per (cycle/pixel)
RANGES = {
    "geom_ft": (2 * math.pi, math.pi * D),
    "geom_full": (1.0, math.pi * D),
    "geom_lowf": (1.0, D / 2),
    "geom_nohighf": (2 * math.pi, D / 2),
    "linear_lowf": (1.0, D / 2),
}


def frequencies(name: str, n: int = D // 2) -> torch.Tensor:
    return ENCODINGS[name](D, n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(RANGES))
def test_an_encoding_spans_the_frequencies_that_it_promises_on_each_axis(name):
    matrix = frequencies(name)
    assert matrix.shape == (3, 3 * D // 2)
    assert bool(((matrix != 0).sum(0) == 1).all())  # one axis per feature
    low, high = RANGES[name]
    for axis in matrix:
        values = axis[axis != 0]
        assert float(values.min()) == pytest.approx(low, rel=1e-5)
        assert float(values.max()) == pytest.approx(high, rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"linear_lowf"}))
def test_geometric_encodings_have_a_constant_ratio(name):
    axis = frequencies(name)[0]
    values = axis[axis != 0].sort().values
    ratio = values[1:] / values[:-1]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def test_the_paper_s_wavelengths_run_from_two_pixels_to_the_box():
    """On the lattice k = j / D, the finest wave changes sign at every Fourier pixel."""
    axis = frequencies("geom_ft")[0]
    per_fourier_pixel = axis[axis != 0] / D
    assert float(per_fourier_pixel.max()) == pytest.approx(math.pi)
    assert float(per_fourier_pixel.min()) == pytest.approx(2 * math.pi / D)


def test_linear_frequencies_are_whole_numbers():
    axis = frequencies("linear_lowf")[0]
    assert axis[axis != 0].tolist() == list(range(1, D // 2 + 1))


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_gaussian_frequencies_are_isotropic_with_their_sigma(sigma):
    matrix = ENCODINGS["gaussian"](D, 2000, torch.Generator().manual_seed(0), sigma=sigma)
    assert matrix.shape == (3, 6000)
    torch.testing.assert_close(
        torch.cov(matrix),
        torch.eye(3) * (sigma * D / 2) ** 2,
        rtol=0.1,
        atol=0.05 * (sigma * D / 2) ** 2,
    )


def test_features_are_sines_and_cosines_of_the_phase():
    encode = PositionalEncoding(frequencies("gaussian"))
    freqs = torch.rand(7, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    features = encode(freqs)
    assert features.shape == (7, encode.n_features)
    sine, cosine = features.chunk(2, dim=-1)
    torch.testing.assert_close(sine.square() + cosine.square(), torch.ones_like(sine))
    angle = freqs.double() @ encode.frequencies.double()
    torch.testing.assert_close(sine.double(), angle.sin(), rtol=0, atol=1e-5)


def test_coordinates_keep_their_precision_under_autocast():
    encode = PositionalEncoding(frequencies("geom_ft"))
    freqs = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = encode(freqs)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, encode(freqs), rtol=0, atol=0)


@pytest.fixture
def network() -> FourierMLP:
    torch.manual_seed(0)
    return FourierMLP(16, latent_dim=2, width=32, depth=2)


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_the_network_is_a_decoder_with_any_encoding(name):
    decoder = FourierMLP(16, width=16, depth=1, encoding=name)
    values = decoder(torch.zeros(2, 5, 3))
    assert isinstance(decoder, Decoder)
    assert values.shape == (2, 5)
    assert values.dtype == torch.complex64


def test_the_network_has_friedel_symmetry(network):
    generator = torch.Generator().manual_seed(1)
    freqs = torch.rand(3, 100, 3, generator=generator) - 0.5
    z = torch.randn(3, 2, generator=generator)
    torch.testing.assert_close(network(-freqs, z), network(freqs, z).conj())
    assert bool((network(freqs, z).imag != 0).any())


def test_in_the_plane_kz_zero_only_one_of_each_pair_is_ever_asked_for(network):
    """There the flip cannot tell k from -k: the network itself is not symmetric.

    No image asks for both: an untilted slice is sampled at kx > 0 only, or kx = 0 and ky > 0.
    """
    freqs = torch.tensor([[[0.2, 0.1, 0.0]]])
    z = torch.zeros(1, 2)
    assert not torch.allclose(network(-freqs, z), network(freqs, z).conj(), atol=1e-4)
    flipped, sign = to_half_space(-freqs)
    assert torch.equal(flipped, -freqs)
    assert float(sign) == 1.0


def test_the_latent_changes_the_volume_and_only_that_of_its_image(network):
    freqs = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1) - 0.5
    z = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    both = network(freqs, z)
    assert not torch.allclose(both[0], both[1], atol=1e-3)
    torch.testing.assert_close(both[:1], network(freqs[:1], z[:1]))


def test_values_follow_the_radial_profile(network):
    freqs = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    z = torch.zeros(1, 2)
    plain = network(freqs, z)
    network.amplitude = 1.0 + torch.arange(16.0)  # linear, so interpolation is exact
    scale = 1.0 + freqs.norm(dim=-1) * 16
    torch.testing.assert_close(network(freqs, z), plain * scale)


def test_an_unknown_encoding_is_refused_by_name():
    with pytest.raises(ValueError, match="encoding must be one of"):
        FourierMLP(16, encoding="fourier")
