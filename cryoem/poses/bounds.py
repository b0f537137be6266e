"""How low the score of a pose inside a cell can be, given the score at the centre.

The centre has ``E_c = |b|^2 - 2 Re <b, X>``, with ``b = C S* V`` cut at the radius of the level. A
pose of the finest grid inside the cell has a slice ``a`` up to the finest radius. With ``d = a -
b`` below the radius of the level and ``h = a`` above,

    ``E = E_c + (|d|^2 - 2 Re <d, X - b>) + (|h|^2 - 2 Re <h, X>)``.

``|d|`` and ``|h|`` are bounded by :class:`cryoem.poses.cell_change.CellChange` and the phases of a
shift, the products in one of two ways. By Cauchy and Schwarz, ``Re <d, X - b> <= |d| |X - b|``
always, but where noise dominates ``X - b`` that is loose by the square root of the number of
pixels. If ``X`` is anything, ``mu``, plus white noise ``N``, then ``Re <d, N>`` is a Gaussian of
standard deviation ``|d| / sqrt 2``, and ``Re <d, mu - b> <= |d| |mu - b|``, of which ``|X - b|^2 =
|mu - b|^2 + 2 Re <mu - b, N> + |N|^2`` tells the size: ``|N|^2`` has a gamma distribution.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from scipy import special
from torch import Tensor

from cryoem.poses.cell_change import CellChange, shell_maxima, shell_norms
from cryoem.poses.scores import SearchImages


@dataclass(frozen=True)
class LevelBound:
    """Lower bounds at one level for a batch of images.

    Parameters
    ----------
    change
        Bound on ``|d|`` for the cells of each HEALPix pixel.
    data_energy
        ``|X|^2`` within the radius of the level.
    beyond
        Lowest contribution of the frequencies above that radius.
    noise
        Quantiles of the noise; None for the bound by Cauchy and Schwarz alone.
    """

    change: Float[Tensor, "batch pixel"]
    data_energy: Float[Tensor, " batch"]
    beyond: Float[Tensor, " batch"]
    noise: "NoiseQuantiles | None"

    def lower(
        self,
        error: Float[Tensor, "some *any"],
        image: Int64[Tensor, " some"],
        pixel: Int64[Tensor, "#some rot"],
    ) -> Float[Tensor, "some *any"]:
        """Lower bounds for scores ``(some, rot, ...)`` at the centres of cells."""
        shape = (len(image),) + (1,) * (error.ndim - 1)
        change = self.change[image[:, None], pixel]
        change = change.view(*change.shape, *[1] * (error.ndim - 2))
        residual = (self.data_energy[image].view(shape) + error).clamp_min(0)
        gain = _lowest(change, residual.sqrt())
        if self.noise is not None:
            gain = torch.maximum(gain, _lowest(change, self.noise.projection(residual)))
        return error + gain + self.beyond[image].view(shape)


@dataclass(frozen=True)
class NoiseQuantiles:
    """What the noise of an image exceeds with small probability only.

    ``norm`` is a lower quantile of ``|N|^2``; ``deviates`` an upper quantile of all Gaussians.
    """

    norm: float
    deviates: float

    @staticmethod
    def of(n_freqs: int, chance_norm: float, chance_each: float) -> "NoiseQuantiles":
        """From the probability for the norm, and for each one of the Gaussians."""
        norm = float(special.gammaincinv(n_freqs, chance_norm)) if n_freqs else 0.0
        return NoiseQuantiles(norm, float(-special.ndtri(chance_each)))

    def projection(self, residual: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Bound on ``Re <d, X - b> / |d|``, given ``|X - b|^2``.

        ``|mu - b| <= y + sqrt(y^2 + |X - b|^2 - norm)`` with ``y = deviates / sqrt 2`` solves the
        quadratic inequality that ``|X - b|^2`` gives; ``y`` more bounds the noise itself.
        """
        y = self.deviates / math.sqrt(2)
        return 2 * y + (y * y + residual - self.norm).clamp_min(0).sqrt()


@dataclass(frozen=True)
class ScoreBound:
    """Makes the bounds of each level.

    Parameters
    ----------
    cells
        Change of slices within cells.
    delta
        Probability, for one image, that a bound fails anywhere in the trees; 0 for bounds that
        never do.
    """

    cells: CellChange
    delta: float

    def at(self, images: SearchImages, level: int) -> LevelBound:
        """Bounds for these images at a level."""
        space = self.cells.space
        radius, count = space.radii[level], space.count(level)
        fourier = images.fourier[:, : space.count(space.last)]
        transfer = shell_maxima(space, images.transfer[:, : fourier.shape[1]].abs())
        data = shell_norms(space, fourier)
        slices = transfer * _weigh(images, self.cells.largest()[None])[:, 0]
        inner, outer = self._quantiles(level, count, fourier.shape[1] - count)
        return LevelBound(
            self._change(images, transfer[:, :radius], level),
            data[:, :radius].square().sum(-1),
            _beyond(slices[:, radius:], data[:, radius:], outer),
            inner,
        )

    def _change(
        self, images: SearchImages, transfer: Float[Tensor, "batch shell"], level: int
    ) -> Float[Tensor, "batch pixel"]:
        """Bound on ``|C S*_t V_R - C S*_c V_c| <= |C (V_R - V_c)| + |C (S_t - S_c) V_c|``."""
        space = self.cells.space
        n = transfer.shape[1]
        frequency = torch.arange(1, n + 1, device=space.device) / space.lattice.box_size
        move = 0.0 if level == space.last else space.shifts.covering_radius(level)
        phase = 2 * torch.sin((math.pi * move * frequency).clamp(max=math.pi / 2))
        table = self.cells.reaches[level][..., :n] + phase * self.cells.norms[level][..., :n]
        squared = _weigh(images, table).square()
        return (squared @ transfer.square()[..., None])[..., 0].sqrt()

    def _quantiles(
        self, level: int, n_inner: int, n_outer: int
    ) -> tuple[NoiseQuantiles | None, NoiseQuantiles | None]:
        """Half of ``delta`` for the products with all poses and cells, half for single events.

        At every level each pose has ``d`` and ``h``, each cell ``mu - b``, and each image two norms
        and one ``mu``.
        """
        if self.delta == 0:
            return None, None
        space = self.cells.space
        n_events = sum(
            2 * space.size + len(space.rotations.all(0)) * 8**i * space.shifts.count(i) ** 2
            for i in range(space.last + 1)
        )
        single = self.delta / 2 / (3 * (space.last + 1))
        each = min(self.delta / 2 / n_events, single)
        return NoiseQuantiles.of(n_inner, single, each), NoiseQuantiles.of(n_outer, single, each)


def _weigh(
    images: SearchImages, table: Float[Tensor, "row component shell"]
) -> Float[Tensor, "#batch row shell"]:
    """Triangle inequality over the components of each image's volume."""
    if images.coefficients is None:
        return table[None, :, 0]
    return torch.einsum("bc,rcs->brs", images.coefficients.abs(), table)


def _lowest(
    norm: Float[Tensor, "*any"], slope: Float[Tensor, "*other"]
) -> Float[Tensor, "*broadcast"]:
    """Minimum of ``d^2 - 2 d slope`` over ``0 <= d <= norm``."""
    nearest = torch.minimum(norm, slope)
    return nearest * (nearest - 2 * slope)


def _beyond(
    slices: Float[Tensor, "batch shell"],
    data: Float[Tensor, "batch shell"],
    noise: NoiseQuantiles | None,
) -> Float[Tensor, " batch"]:
    """Lowest ``|h|^2 - 2 Re <h, X>``, given bounds on ``|h|`` and ``|X|`` per shell."""
    lowest = _lowest(slices, data).sum(-1)
    if noise is None:
        return lowest
    projection = noise.projection(data.square().sum(-1))
    return torch.maximum(lowest, _lowest(slices.norm(dim=-1), projection))
