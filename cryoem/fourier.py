"""Centred Fourier and Hartley transforms of images and volumes.

The centre is pixel ``N // 2`` on every transformed axis, in both domains. See
:mod:`cryoem.conventions` for signs and scale.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def _axes(ndim: int) -> tuple[int, ...]:
    return tuple(range(-ndim, 0))


def fourier_transform(images: Float[Tensor, "*any"], ndim: int = 2) -> Complex[Tensor, "*any"]:
    """Centred orthonormal transform of the last ``ndim`` axes, all frequencies."""
    axes = _axes(ndim)
    shifted = torch.fft.ifftshift(images, dim=axes)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=axes, norm="ortho"), dim=axes)


def inverse_fourier_transform(
    spectrum: Complex[Tensor, "*any"], ndim: int = 2
) -> Float[Tensor, "*any"]:
    """Invert :func:`fourier_transform`; the imaginary part, zero for real images, is dropped."""
    axes = _axes(ndim)
    shifted = torch.fft.ifftshift(spectrum, dim=axes)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=axes, norm="ortho").real, dim=axes)


def hartley_transform(images: Float[Tensor, "*any"], ndim: int = 2) -> Float[Tensor, "*any"]:
    """Centred orthonormal Hartley transform ``Re F - Im F``; it is its own inverse."""
    spectrum = fourier_transform(images, ndim)
    return spectrum.real - spectrum.imag


def symmetrise(spectrum: Float[Tensor, "*batch side side"]) -> Float[Tensor, "*batch box box"]:
    """Extend ``D x D`` to the odd lattice ``D+1 x D+1``: the Nyquist row and column stand twice.

    On that lattice ``k`` and ``-k`` are mirror indices, so Friedel symmetry is an index reversal.
    """
    wider = torch.cat([spectrum, spectrum[..., :1]], dim=-1)
    return torch.cat([wider, wider[..., :1, :]], dim=-2)


def fourier_crop(
    images: Float[Tensor, "*batch side side"], box_size: int
) -> Float[Tensor, "*b s s"]:
    """Resample images to a smaller even box by cutting their transform.

    The real-space values keep their scale times ``side / box_size``: with the orthonormal
    transform, white noise of variance one stays white noise of variance one, also at the new
    Nyquist frequency.

    Raises
    ------
    ValueError
        If ``box_size`` is odd or larger than the image.
    """
    side = images.shape[-1]
    if box_size % 2 or box_size > side:
        raise ValueError(f"box_size must be even and at most {side}, got {box_size}")
    if box_size == side:
        return images
    low, high = side // 2 - box_size // 2, side // 2 + box_size // 2
    spectrum = fourier_transform(images)[..., low:high, low:high]
    # Of +-Nyquist only one is kept. A real image holds their mean there, which has half the noise.
    nyquist = torch.ones(box_size, device=images.device, dtype=images.dtype)
    nyquist[0] = 2**0.5
    return inverse_fourier_transform(spectrum * torch.maximum(nyquist[:, None], nyquist))
