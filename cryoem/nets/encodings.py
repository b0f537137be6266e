"""Positional encodings of frequencies: sines and cosines of linear forms of ``k``.

Each is a fixed matrix ``(3, feature)`` of angular frequencies in radians per (cycle/pixel), so that
encoding is one matrix product. A column ``2 pi x`` is the wave of a density at ``x`` pixels from
the centre: the set of columns says how far from the centre the volume can vary quickly.
Names and ranges follow Zhong et al., ICLR 2020, and the released cryoDRGN.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Frequencies = Float[Tensor, "3 feature"]


def _on_axes(octaves: Float[Tensor, " octave"]) -> Frequencies:
    """Repeat the same frequencies along each of x, y, z."""
    return torch.block_diag(*[octaves[None]] * 3)


def _geometric(first: float, last: float, n: int) -> Float[Tensor, " octave"]:
    exponent = torch.arange(n, dtype=torch.float32) / max(n - 1, 1)
    return first * (last / first) ** exponent


def geom_ft(box_size: int, n: int, generator: torch.Generator) -> Frequencies:
    """``D pi ... 2 pi``, geometric: the paper's formula, wavelengths from 2 pixels to the box."""
    return _on_axes(_geometric(math.pi * box_size, 2 * math.pi, n))


def geom_full(box_size: int, n: int, generator: torch.Generator) -> Frequencies:
    """``D pi ... 1``, geometric."""
    return _on_axes(_geometric(math.pi * box_size, 1.0, n))


def geom_lowf(box_size: int, n: int, generator: torch.Generator) -> Frequencies:
    """``D/2 ... 1``, geometric."""
    return _on_axes(_geometric(box_size / 2, 1.0, n))


def geom_nohighf(box_size: int, n: int, generator: torch.Generator) -> Frequencies:
    """``D/2 ... 2 pi``, geometric."""
    return _on_axes(_geometric(box_size / 2, 2 * math.pi, n))


def linear_lowf(box_size: int, n: int, generator: torch.Generator) -> Frequencies:
    """``1 ... n``, linear."""
    return _on_axes(torch.arange(1, n + 1, dtype=torch.float32))


def gaussian(box_size: int, n: int, generator: torch.Generator, sigma: float = 0.5) -> Frequencies:
    """``3 n`` random directions, ``N(0, (sigma D / 2)^2)`` per axis.

    In real space: points around the centre with standard deviation ``sigma D / 4 pi`` pixels.
    """
    return torch.randn(3, 3 * n, generator=generator) * (sigma * box_size / 2)


ENCODINGS: dict[str, Callable[..., Frequencies]] = {
    function.__name__: function
    for function in (geom_ft, geom_full, geom_lowf, geom_nohighf, linear_lowf, gaussian)
}


class PositionalEncoding(nn.Module):
    """``k -> [sin(k B), cos(k B)]`` in float32, also under autocast.

    At the highest frequency a bfloat16 coordinate would have lost the phase altogether. A cosine is
    a sine a quarter of a turn later, so that one product and one sine give all features in place.
    """

    frequencies: Frequencies
    phases: Float[Tensor, " feature"]

    def __init__(self, frequencies: Frequencies) -> None:
        super().__init__()
        n = frequencies.shape[1]
        self.register_buffer("frequencies", frequencies)  # persistent: Gaussian ones are random
        phases = torch.tensor([0.0, math.pi / 2]).repeat_interleave(n)
        self.register_buffer("phases", phases, persistent=False)
        self.n_features = 2 * n

    def forward(self, freqs: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch feature"]:
        """Encode points given in cycles per pixel."""
        with torch.autocast(freqs.device.type, enabled=False):
            waves = torch.cat([self.frequencies, self.frequencies], dim=-1)
            return torch.sin(functional.linear(freqs.float(), waves.T, self.phases))


def make_encoding(
    name: str, box_size: int, n_frequencies: int | None, sigma: float, seed: int
) -> PositionalEncoding:
    """Build the encoding ``name`` of :data:`ENCODINGS`.

    Parameters
    ----------
    box_size
        Side of the training images in pixels.
    n_frequencies
        Per axis; ``box_size / 2`` when None.
    sigma, seed
        Width and random numbers of the Gaussian encoding; the others have neither.

    Raises
    ------
    ValueError
        If there is no such encoding.
    """
    if name not in ENCODINGS:
        raise ValueError(f"encoding must be one of {sorted(ENCODINGS)}, got {name!r}")
    generator = torch.Generator().manual_seed(seed)
    options = {"sigma": sigma} if name == "gaussian" else {}
    n = n_frequencies or box_size // 2
    return PositionalEncoding(ENCODINGS[name](box_size, n, generator, **options))
