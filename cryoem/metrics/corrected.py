"""Half-map FSC corrected for the correlation that a mask itself brings."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.metrics.fsc import FSCCurve, fsc, shell_index

Rule = Literal["relion", "cryosparc"]


@dataclass(frozen=True)
class CorrectedFSC:
    """Curves of two half maps; ``first_shell`` is the first whose phases were randomised."""

    unmasked: FSCCurve
    masked: FSCCurve
    randomised: FSCCurve
    corrected: FSCCurve
    first_shell: int


def corrected_fsc(
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    mask: Float[Tensor, "z y x"],
    rule: Rule = "relion",
    seed: int = 0,
) -> CorrectedFSC:
    """Subtract what remains of the masked FSC once the maps' own phases are gone.

    ``(FSC_t - FSC_n) / (1 - FSC_n)`` from ``first_shell`` on, clipped to [0, 1], where ``FSC_t`` is
    the masked curve and ``FSC_n`` the same after the phases of both maps, from that shell on, were
    replaced by random ones. Chen et al., Ultramicroscopy 135, 24 (2013).

    Parameters
    ----------
    half1, half2
        Maps of disjoint sets of images, not masked before.
    mask
        Of the molecule, in [0, 1].
    rule
        Where to begin. ``relion``: where the unmasked curve falls below 0.8. ``cryosparc``: 0.75 of
        the frequency where the masked curve falls below 0.143, or, if it never does, 0.5 of where
        the unmasked one does.
    seed
        Of the random phases.
    """
    unmasked, masked = fsc(half1, half2), fsc(half1, half2, mask)
    first = _first_shell(unmasked, masked, rule)
    generator = torch.Generator().manual_seed(seed)
    random1 = randomise_phases(half1, first, generator)
    random2 = randomise_phases(half2, first, generator)
    randomised = fsc(random1, random2, mask)
    noise = np.clip(np.nan_to_num(randomised.correlation), -1, 1 - 1e-6)
    corrected = np.clip((masked.correlation - noise) / (1 - noise), 0, 1)
    corrected[:first] = masked.correlation[:first]
    return CorrectedFSC(unmasked, masked, randomised, FSCCurve(masked.frequency, corrected), first)


def randomise_phases(
    volume: Float[Tensor, "z y x"], first_shell: int, generator: torch.Generator
) -> Float[Tensor, "z y x"]:
    """Replace the phases of shells ``first_shell`` and beyond; amplitudes stay.

    The phases are those of white noise in real space, so that the result is real.
    """
    noise = torch.randn(volume.shape, generator=generator).to(volume)
    spectrum: Complex[Tensor, "z y half"] = torch.fft.rfftn(volume)
    phase = torch.sgn(torch.fft.rfftn(noise))
    beyond = shell_index(volume.shape[0]).to(volume.device) >= first_shell
    spectrum = torch.where(beyond, spectrum.abs() * phase, spectrum)
    return torch.fft.irfftn(spectrum, s=volume.shape)


def _first_shell(unmasked: FSCCurve, masked: FSCCurve, rule: Rule) -> int:
    if rule == "relion":
        frequency = unmasked.crossing(0.8)
    else:
        frequency = 0.75 * masked.crossing(0.143)
        if math.isinf(frequency):
            frequency = 0.5 * unmasked.crossing(0.143)
    n_shells = len(unmasked.frequency)
    if math.isnan(frequency):  # below from the start: every phase is in doubt
        return 1
    return n_shells if math.isinf(frequency) else max(1, math.ceil(frequency * 2 * n_shells))
