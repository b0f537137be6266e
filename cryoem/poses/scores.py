"""Scores of poses: negative log likelihoods of images, as matrix products with slices.

``E(R, t) = |C V_R|^2 - 2 Re <C V_R, S_t X>``, sums over the half-disc, for an image ``X`` with the
CTF ``C`` and the phases ``S_t`` that centre it. The noise of a coefficient has unit variance, so
differences of ``E`` are nats. The CTF stays on the image's side, ``C S_t X`` and ``C^2``, so slices
are the same for all images, and an astigmatic CTF is as exact as any other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.batch import TensorRecord
from cryoem.lattice import shift_phases


@dataclass(frozen=True)
class SearchImages(TensorRecord):
    """What a search knows of particles.

    ``fourier`` are the images as they are, not centred; ``coefficients`` weigh the components of a
    :class:`cryoem.poses.volume_cache.VolumeCache`, None where it has but one.
    """

    fourier: Complex[Tensor, "batch freq"]
    transfer: Float[Tensor, "batch freq"]
    coefficients: Float[Tensor, "batch component"] | None = None

    def __len__(self) -> int:
        return len(self.fourier)

    def within(self, count: int) -> "SearchImages":
        """Return the first ``count`` frequencies, a smaller disc."""
        return SearchImages(self.fourier[:, :count], self.transfer[:, :count], self.coefficients)

    def flattened(self, power: Float[Tensor, " freq"]) -> "SearchImages":
        """With more noise: that of a volume of which a slice may be wrong by ``power``.

        Where the signal is far above the noise the few lowest frequencies decide alone, and what a
        wrong volume makes of them is never left again. With all of the signal's power no frequency
        can tell more than noise would let it.
        """
        weight = (1 + self.transfer.square() * power).rsqrt()
        return SearchImages(self.fourier * weight, self.transfer * weight, self.coefficients)

    def combine_shared(
        self, slices: Complex[Tensor, "rot component freq"]
    ) -> Complex[Tensor, "*batch rot freq"]:
        """Slices of each image's volume at the same rotations; one set if all have one volume."""
        if self.coefficients is None:
            return slices[:, 0]
        sums = self.coefficients @ _real(slices.transpose(0, 1)).flatten(1)
        return torch.view_as_complex(sums.view(len(self), len(slices), -1, 2))

    def combine_own(
        self, slices: Complex[Tensor, "batch *any component freq"]
    ) -> Complex[Tensor, "batch *any freq"]:
        """Slices of each image's volume at its own rotations."""
        if self.coefficients is None:
            return slices[..., 0, :]
        weights = self.coefficients.to(slices.dtype)
        weights = weights.view(len(self), *[1] * (slices.ndim - 3), 1, -1)
        return (weights @ slices)[..., 0, :]


def shifted_data(
    images: SearchImages, freqs: Float[Tensor, "freq 3"], shift: Float[Tensor, "*any 2"]
) -> Complex[Tensor, "batch *any freq"]:
    """``C S_t X``: images centred by every shift, times their CTF."""
    data = images.fourier * images.transfer
    phases = shift_phases(freqs, shift)
    return data.view(len(images), *[1] * (phases.ndim - 1), -1) * phases


def _real(values: Complex[Tensor, "*any freq"]) -> Float[Tensor, "*any column"]:
    """Real and imaginary parts in turn: ``Re <a, b>`` is a product of such vectors."""
    return torch.view_as_real(values).flatten(-2)


def _slice_power(
    volume: Complex[Tensor, "*any rot freq"], images: SearchImages
) -> Float[Tensor, "batch rot"]:
    """``|C V_R|^2`` for slices shared by the images, or one set for each."""
    squared = _real(volume).square()
    weights = images.transfer.square().repeat_interleave(2, -1)
    if squared.ndim == 2:
        return weights @ squared.T
    return (squared @ weights[..., None])[..., 0]


def dense_scores(
    images: SearchImages,
    slices: Complex[Tensor, "rot component freq"],
    data: Complex[Tensor, "batch shift freq"],
) -> Float[Tensor, "batch rot shift"]:
    """Scores of all rotations with all shifts."""
    volume = images.combine_shared(slices)
    power = _slice_power(volume, images)[..., None]
    return torch.add(power, _correlation(volume, data), alpha=-2)


def dense_minimum(
    images: SearchImages,
    slices: Complex[Tensor, "rot component freq"],
    data: Complex[Tensor, "batch shift freq"],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch rot"]:
    """Scores of all rotations, each with its best shift; only the product is ever written.

    ``dtype`` is that of the product, whose sums are in float32 whatever it is.
    """
    volume = images.combine_shared(slices)
    best = _correlation(volume, data, dtype).amax(-1)
    return _slice_power(volume, images) - 2 * best.float()


def _correlation(
    volume: Complex[Tensor, "*any rot freq"],
    data: Complex[Tensor, "batch shift freq"],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch rot shift"]:
    """``Re <V_R, C S_t X>``."""
    left, right = _real(volume).to(dtype), _real(data).to(dtype)
    if left.ndim == 3:
        return left @ right.mT
    product = left @ right.flatten(0, 1).T
    return product.unflatten(1, data.shape[:2]).transpose(0, 1)


def local_scores(
    images: SearchImages,
    volume: Complex[Tensor, "batch kept child freq"],
    freqs: Float[Tensor, "freq 3"],
    centre: Float[Tensor, "batch kept 2"],
    offsets: Float[Tensor, "offset 2"],
) -> Float[Tensor, "batch kept child offset"]:
    """Scores of a few rotations around each kept pose, with shifts at offsets from its own.

    The offsets are the same for all, so that after one multiplication of slice and image they are
    a single product with the phases ``(2 freq, offset)``.
    """
    data = (images.fourier * images.transfer)[:, None] * shift_phases(freqs, centre)
    product = _real(volume * data.conj().resolve_conj()[:, :, None])
    correlation = product @ _real(shift_phases(freqs, offsets)).T
    power = (volume.real.square() + volume.imag.square()).flatten(1, 2)
    power = power @ images.transfer.square()[..., None]
    return torch.add(power.unflatten(1, volume.shape[1:3]), correlation, alpha=-2)
