"""Volumes on a grid from a decoder, and back."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.decoders.base import Decoder, LinearDecoder, Windowed, combine

# Points at once: a network's layers stay in the caches of a processor, and fill a GPU.
_ON_PROCESSOR, _ON_GPU = 1 << 13, 1 << 17


def half_grid(box_size: int) -> Float[Tensor, "z y x 3"]:
    """Frequencies (cycles/voxel, x y z) of an unshifted ``rfftn`` grid, ``kx >= 0``."""
    full = torch.fft.fftfreq(box_size)
    half = torch.fft.rfftfreq(box_size)
    kz, ky, kx = torch.meshgrid(full, full, half, indexing="ij")
    return torch.stack([kx, ky, kz], dim=-1)


def spectrum_to_volume(
    spectrum: Complex[Tensor, "*batch z y x"],
) -> Float[Tensor, "*batch side side side"]:
    """Density of which ``spectrum`` holds the slices (orthonormal in 2D), ``rfftn`` layout."""
    side = spectrum.shape[-2]
    volume = torch.fft.irfftn(spectrum * side, s=(side, side, side), dim=(-3, -2, -1))
    return torch.fft.fftshift(volume, dim=(-3, -2, -1))


def volume_to_spectrum(
    volume: Float[Tensor, "*batch side side side"],
) -> Complex[Tensor, "*batch z y x"]:
    """Invert :func:`spectrum_to_volume`."""
    centred = torch.fft.ifftshift(volume, dim=(-3, -2, -1))
    return torch.fft.rfftn(centred, dim=(-3, -2, -1)) / volume.shape[-1]


def crop_volume(
    volume: Float[Tensor, "side side side"], box_size: int
) -> Float[Tensor, "box box box"]:
    """Resample to a smaller even box that spans the same length, by cutting the transform."""
    side = len(volume)
    if box_size == side:
        return volume
    spectrum = volume_to_spectrum(volume)
    half = box_size // 2
    keep = torch.cat([torch.arange(half), torch.arange(side - half, side)])
    cropped = spectrum[keep][:, keep][..., : half + 1]
    return spectrum_to_volume(cropped)


@torch.no_grad()
def evaluate_volumes(
    decoder: Decoder,
    box_size: int,
    z: Float[Tensor, "volume latent"] | None,
    device: torch.device,
    points_per_chunk: int | None = None,
) -> Float[Tensor, "volume side side side"]:
    """Density of the decoder's volumes, one for each row of ``z`` (one in all when None).

    Only the half-space ``kx >= 0`` inside the sphere of radius ``D/2`` is evaluated; the rest
    follows from Friedel symmetry or is zero. The origin, which no image constrains, is zero.
    Evaluated in chunks of at most ``points_per_chunk`` points, over all volumes, by default as many
    as are fastest; results are on the CPU.
    """
    grid = half_grid(box_size)
    radius = grid.norm(dim=-1) * box_size
    inside = (radius <= box_size / 2) & (radius > 0)
    rows = None if z is None else z.to(device)
    together = 1 if rows is None or isinstance(decoder, LinearDecoder) else len(rows)
    at_once = points_per_chunk or (_ON_PROCESSOR if device.type == "cpu" else _ON_GPU)
    chunks = grid[inside].split(max(1, at_once // together))
    values = torch.cat([_values(decoder, chunk.to(device), rows).cpu() for chunk in chunks], dim=1)
    spectrum = torch.zeros(len(values), *grid.shape[:-1], dtype=torch.complex64)
    spectrum[:, inside] = values.to(torch.complex64)
    volumes = spectrum_to_volume(spectrum)
    if isinstance(decoder, Windowed):
        volumes = volumes * decoder.real_space_window(box_size)
    return volumes


def _values(
    decoder: Decoder, points: Float[Tensor, "point 3"], z: Float[Tensor, "volume latent"] | None
) -> Complex[Tensor, "volume point"]:
    """All volumes at the same points, which are encoded once for all of them."""
    if z is not None and isinstance(decoder, LinearDecoder):
        basis = decoder.basis(points[None])
        return torch.cat([combine(basis, row[None]) for row in z])
    return decoder(points[None], z)
