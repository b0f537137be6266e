"""Fourier shell correlation: the curve, its area, and the resolution read from it."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from torch import Tensor

Shells = Literal["centred", "cryobench"]


@dataclass(frozen=True)
class FSCCurve:
    """A Fourier shell correlation, one value per shell ``0 .. D/2 - 1``.

    Attributes
    ----------
    frequency
        ``i / D`` in cycles per voxel.
    correlation
        Dimensionless, in [-1, 1]; NaN where a shell of either volume is empty. Shell 0 is the mean
        of the volumes and enters no summary.
    """

    frequency: Float[ndarray, " shell"]
    correlation: Float[ndarray, " shell"]

    def mean(self) -> float:
        """Average over shells ``1 .. D/2 - 1``, without a weight; NaN if all are empty."""
        known = self.correlation[1:][~np.isnan(self.correlation[1:])]
        return float(known.mean()) if len(known) else float("nan")

    def auc(self) -> float:
        """Area under the curve clipped to [0, 1], in cycles per voxel.

        Its largest value is ``(D/2 - 1) / D``: the curve counts as one at the origin.
        """
        clipped = np.clip(np.nan_to_num(self.correlation), 0, 1)
        clipped[0] = 1
        trapezoids = (clipped[1:] + clipped[:-1]) / 2
        return float(trapezoids.sum() * self.frequency[1])

    def auc_norm(self) -> float:
        """Area under the curve as a fraction of its largest value."""
        return self.auc() / float(self.frequency[-1])

    def crossing(self, threshold: float) -> float:
        """Frequency (cycles/voxel) at which the curve first falls below ``threshold``.

        Linear between shells. NaN when it starts below, infinity when it never falls below. An
        empty shell counts as zero.
        """
        curve = np.nan_to_num(self.correlation[1:])
        below = np.flatnonzero(curve < threshold)
        if len(below) == 0:
            return math.inf
        first = int(below[0])
        if first == 0:
            return math.nan
        step = (curve[first - 1] - threshold) / (curve[first - 1] - curve[first])
        return float((1 + first - 1 + step) * self.frequency[1])

    def resolution(self, threshold: float, voxel_size: float) -> float:
        """Resolution in angstrom at ``threshold``; ``2 voxel_size`` when the curve never crosses.

        NaN when the curve starts below. Use 0.5 against the truth and 0.143 between half maps.
        """
        frequency = self.crossing(threshold)
        return 2 * voxel_size if math.isinf(frequency) else voxel_size / frequency

    def at_nyquist(self, threshold: float) -> bool:
        """Whether the curve stays above ``threshold``, so that the resolution is only a bound."""
        return math.isinf(self.crossing(threshold))


def fsc(
    a: Float[Tensor, "z y x"],
    b: Float[Tensor, "z y x"],
    mask: Float[Tensor, "z y x"] | None = None,
    shells: Shells = "centred",
) -> FSCCurve:
    """Correlate two volumes shell by shell.

    ``FSC(i) = Re sum F1 conj(F2) / sqrt(sum |F1|^2 sum |F2|^2)`` over the shell ``S_i``; Harauz &
    van Heel, Optik 73, 146 (1986).

    Parameters
    ----------
    a, b
        Cubic volumes of one even side ``D``, any units.
    mask
        Multiplied with both volumes in real space.
    shells
        ``centred``: ``i - 1/2 <= |k| < i + 1/2``. ``cryobench``: ``i - 1 <= |k| < i``, shell 0 and
        empty shells set to one, the scheme of published CryoBench numbers; its areas are larger by
        about ``1/(2D)`` of the drop of the curve.

    Raises
    ------
    ValueError
        If the shapes differ or are not an even cube.
    """
    side = a.shape[0]
    if a.shape != (side, side, side) or a.shape != b.shape or side % 2:
        raise ValueError(f"volumes must be cubes of one even side: {(*a.shape,)}, {(*b.shape,)}")
    if mask is not None:
        a, b = a * mask, b * mask
    return correlate_spectra(torch.fft.rfftn(a), torch.fft.rfftn(b), shells)


def correlate_spectra(
    a: Complex[Tensor, "z y x"], b: Complex[Tensor, "z y x"], shells: Shells = "centred"
) -> FSCCurve:
    """FSC of two spectra in ``rfftn`` layout; see :func:`fsc`."""
    side = a.shape[0]

    def total(values: Tensor) -> ndarray:
        return shell_sums(values, shells).cpu().numpy()

    cross = total((a * b.conj()).real)
    power = total(a.abs().square()) * total(b.abs().square())
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(power > 0, cross / np.sqrt(power), np.nan)
    if shells == "cryobench":
        correlation = np.nan_to_num(correlation, nan=1.0)
        correlation[0] = 1.0
    return FSCCurve(np.arange(side // 2) / side, correlation)


def shell_sums(
    values: Float[Tensor, "z y x"], shells: Shells = "centred"
) -> Float[Tensor, " shell"]:
    """Float64 sums over shells ``0 .. D/2 - 1`` of the full sphere, from ``rfftn`` layout."""
    side = values.shape[0]
    index, weight = _half_grid_shells(side, shells, values.device)
    sums = torch.bincount(index, weights=weight * values.flatten().double(), minlength=side // 2)
    return sums[: side // 2]


def shell_index(side: int, shells: Shells = "centred") -> Tensor:
    """Shell of every point of an ``rfftn`` grid, ``(side, side, side // 2 + 1)``, int64."""
    full = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    half = torch.fft.rfftfreq(side, 1 / side, dtype=torch.float64)
    radius = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2).sqrt()
    # the radius is the root of an integer, so it never lies on i + 1/2
    return ((radius + 0.5) if shells == "centred" else (radius + 1)).long()


@lru_cache(maxsize=4)
def _half_grid_shells(side: int, shells: Shells, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat shell indices, and 2 for points whose mirror image is not on the half grid, else 1."""
    index = shell_index(side, shells)
    weight = torch.full(index.shape, 2.0, dtype=torch.float64)
    weight[..., 0] = weight[..., -1] = 1.0
    return index.flatten().to(device), weight.flatten().to(device)
