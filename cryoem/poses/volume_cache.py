"""Volumes on an oversampled Fourier grid, from which a search cuts its slices by interpolation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional

from cryoem.decoders.base import Decoder, LinearDecoder, Windowed

Evaluate = Callable[[Float[Tensor, "point 3"]], Complex[Tensor, "component point"]]
Coefficients = Callable[[Float[Tensor, "batch latent"]], Float[Tensor, "batch component"]]

# Grid points evaluated beyond the radius, in pixels: the reach of interpolation and precorrection.
_MARGIN = 2.0


@dataclass(frozen=True)
class VolumeCache:
    """Components ``V_c(k)`` on a cubic grid; a volume is a sum of them.

    Parameters
    ----------
    grid
        Real and imaginary parts of the components, ``[z, y, x]`` in steps of ``1 / (padding *
        box_size)`` cycles per voxel about the centre.
    box_size
        Side of the images in pixels.
    padding
        Oversampling of the grid.
    coefficients
        Weights of the components for latents; None where there is one component, of weight 1.
    n_latents
        How many of the components, the last ones, have latents for weights.
    """

    grid: Float[Tensor, "side side side channel"]
    box_size: int
    padding: float
    coefficients: Coefficients | None = None
    n_latents: int = 0

    @property
    def n_components(self) -> int:
        """Number of volumes that are kept."""
        return self.grid.shape[-1] // 2

    def centre(self) -> Float[Tensor, "3"]:
        """Centre of the squared density, pixels (x, y, z) from the middle of the box."""
        axes = (0, 1, 2)
        spectrum = torch.view_as_complex(self.grid[..., :2].contiguous())
        density = torch.fft.ifftn(torch.fft.ifftshift(spectrum, axes), dim=axes).real
        weight = torch.fft.fftshift(density, axes).square()
        side = weight.shape[0]
        # the grid spans side / (padding * box_size) cycles per pixel
        x = (torch.arange(side, device=weight.device) - side // 2) * (
            self.padding * self.box_size / side
        )
        inside = x.abs() <= self.box_size / 2
        weight = weight[inside][:, inside][:, :, inside]
        sums = [weight.sum(dim=[a for a in axes if a != axis]) @ x[inside] for axis in (2, 1, 0)]
        return torch.stack(sums) / weight.sum()

    @property
    def steps(self) -> float:
        """What a frequency is multiplied by so that the faces of the grid are at +-1."""
        return self.padding * self.box_size / (self.grid.shape[0] // 2)

    def slices(
        self, rotation: Float[Tensor, "slice 3 3"], freqs: Float[Tensor, "freq 3"]
    ) -> Complex[Tensor, "slice component freq"]:
        """Central slices of every component, complex64, by trilinear interpolation.

        ``freqs`` (cycles per pixel) must lie within the radius that was cached.
        """
        points = (freqs[:, :2] * self.steps) @ rotation[:, :2].to(freqs.dtype)
        volume = self.grid.permute(3, 0, 1, 2).expand(len(rotation), -1, -1, -1, -1)
        values = functional.grid_sample(volume, points[:, None, None], align_corners=True)
        parts = values[:, :, 0, 0].unflatten(1, (self.n_components, 2))
        return torch.complex(parts[:, :, 0], parts[:, :, 1])

    def volumes(self, weights: Float[Tensor, "batch component"] | None) -> "Volumes":
        """Sums of the components, one for each image; without weights the one volume of all."""
        components = torch.view_as_complex(self.grid.unflatten(-1, (-1, 2)))
        if weights is None:
            return Volumes(components[None, ..., 0], self.steps)
        # a product with complex numbers reads the grid as it lies, that with real ones copies it
        sums = weights.to(components.dtype) @ components.flatten(0, 2).T
        return Volumes(sums.unflatten(1, self.grid.shape[:3]), self.steps)


@dataclass(frozen=True)
class Volumes:
    """The volume of each image, or one for all, for searches that cut many slices for each.

    To sum components once for each image and interpolate one volume costs less than to interpolate
    all components at hundreds of rotations.
    """

    grid: Complex[Tensor, "volume side side side"]
    steps: float

    def slices(
        self, rotation: Float[Tensor, "batch *any 3 3"], freqs: Float[Tensor, "freq 3"]
    ) -> Complex[Tensor, "batch *any freq"]:
        """Slices of each image's volume at its own rotations, by trilinear interpolation."""
        points = (freqs[:, :2] * self.steps) @ rotation[..., :2, :].to(freqs.dtype)
        shape = points.shape[:-1]
        # (volume, slice, freq, 1, 3); a processor's threads share the first axis
        points = points.flatten(0, -3)[:, None] if len(self.grid) == 1 else points.flatten(1, -3)
        volume = torch.view_as_real(self.grid).permute(0, 4, 1, 2, 3)
        volume = volume.expand(len(points), -1, -1, -1, -1)
        values = functional.grid_sample(volume, points[..., None, :], align_corners=True)
        return torch.complex(values[:, 0], values[:, 1]).reshape(shape)


def cache_volume(
    decoder: Decoder, box_size: int, radius: int, device: torch.device, padding: float = 2.0
) -> VolumeCache:
    """Cache of one volume: that of latent zero, where the decoder has a latent."""
    z = torch.zeros(1, decoder.latent_dim, device=device) if decoder.latent_dim else None

    def evaluate(points: Float[Tensor, "point 3"]) -> Complex[Tensor, "1 point"]:
        return decoder(points[None], z)

    grid = _sample(evaluate, decoder, box_size, radius, device, padding)
    return VolumeCache(grid, box_size, padding)


def mean_cache(caches: Sequence[VolumeCache]) -> VolumeCache:
    """The mean of caches of one volume each."""
    grid = torch.stack([cache.grid for cache in caches]).mean(0)
    return replace(caches[0], grid=grid)


def cache_components(
    decoder: LinearDecoder, box_size: int, radius: int, device: torch.device, padding: float = 2.0
) -> VolumeCache:
    """Cache of the mean and the components of a decoder that is linear in the latent; exact."""

    def evaluate(points: Float[Tensor, "point 3"]) -> Complex[Tensor, "component point"]:
        return decoder.basis(points[None])[0].T

    grid = _sample(evaluate, decoder, box_size, radius, device, padding)
    return VolumeCache(grid, box_size, padding, _with_one, n_latents=decoder.latent_dim)


@torch.no_grad()
def cache_low_rank(
    decoder: Decoder,
    z: Float[Tensor, "volume latent"],
    rank: int,
    box_size: int,
    radius: int,
    padding: float = 2.0,
    n_probes: int = 512,
    seed: int = 0,
) -> VolumeCache:
    """Cache of the ``rank`` best components for the volumes of any decoder.

    The singular vectors of the decoder's values at the latents ``z`` and random probe points
    define the components as combinations of those volumes. The coefficients of another latent are
    the least-squares fit at the same probes, for which the decoder is asked at ``n_probes`` points
    in place of whole slices ("gappy POD", Everson & Sirovich, J. Opt. Soc. Am. A 12, 1995).
    """
    probes = _random_points(n_probes, box_size, radius, seed).to(z.device)
    at_probes = _real(_each(decoder, probes, z))
    left, values, _ = torch.linalg.svd(at_probes, full_matrices=False)
    rank = min(rank, int((values > 1e-6 * values[0]).sum()))
    mixing = left[:, :rank] / values[:rank]  # of the volumes, so that components are orthonormal

    def evaluate(points: Float[Tensor, "point 3"]) -> Complex[Tensor, "component point"]:
        return mixing.T.to(torch.complex64) @ _each(decoder, points, z)

    # (rank, 2 probe), orthonormal rows: the fit at the probes is a product with the transpose
    components = mixing.T @ at_probes

    def coefficients(latents: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch component"]:
        return _real(_each(decoder, probes, latents)) @ components.T

    grid = _sample(evaluate, decoder, box_size, radius, z.device, padding)
    return VolumeCache(grid, box_size, padding, coefficients)


@torch.no_grad()
def _sample(
    evaluate: Evaluate,
    decoder: Decoder | LinearDecoder,
    box_size: int,
    radius: int,
    device: torch.device,
    padding: float,
    points_per_chunk: int = 1 << 14,
) -> Float[Tensor, "side side side channel"]:
    """Values on the grid: half of it is evaluated, the rest follows from Friedel symmetry."""
    half = math.ceil(padding * (radius + _MARGIN))
    side = 2 * half + 1
    # In a flat cube of odd side, opposite points have opposite distances from the middle element.
    flat = torch.arange(side**3 // 2, side**3, device=device)
    index = torch.stack([flat % side, flat // side % side, flat // side**2], dim=-1) - half
    inside = index.float().norm(dim=-1) <= half
    points = _within(index[inside].float() / (padding * box_size))
    values = torch.cat([evaluate(chunk) for chunk in points.split(points_per_chunk)], dim=-1)
    cube = values.new_zeros(len(values), side**3)
    cube[:, flat[inside]] = values
    cube[:, : side**3 // 2] = cube[:, side**3 // 2 + 1 :].flip(-1).conj()
    cube = cube.unflatten(-1, (side, side, side))
    if not isinstance(decoder, Windowed):
        cube = _precorrect(cube, padding)
    return torch.view_as_real(cube).permute(1, 2, 3, 0, 4).flatten(-2).contiguous()


def _within(points: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
    """Points beyond Nyquist, needed only by the interpolation at its edge, pulled back onto it."""
    return points * (0.5 / points.norm(dim=-1, keepdim=True).clamp_min(0.5))


def _precorrect(
    cube: Complex[Tensor, "component side side side"], padding: float
) -> Complex[Tensor, "component side side side"]:
    """Undo in advance what linear interpolation does to the density: a factor ``sinc^2`` per axis.

    Only as far as the edge of the box; the empty rest of the padded space is left as it is there.
    """
    side = cube.shape[-1]
    x = (torch.arange(side, device=cube.device) - side // 2) / side
    factor = torch.sinc(x.clamp(-0.5 / padding, 0.5 / padding)) ** -2
    axes = (-3, -2, -1)
    # the centre of the grid in real space does not matter: shift both ways
    density = torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(cube, axes), dim=axes), axes)
    density = density * factor[:, None, None] * factor[:, None] * factor
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(density, axes), dim=axes), axes)


def _with_one(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch component"]:
    return torch.cat([torch.ones_like(z[:, :1]), z], dim=-1)


def _each(
    decoder: Decoder, points: Float[Tensor, "point 3"], z: Float[Tensor, "volume latent"]
) -> Complex[Tensor, "volume point"]:
    """Every volume at the same points."""
    return decoder(points.expand(len(z), -1, -1), z).to(torch.complex64)


def _real(values: Complex[Tensor, "volume point"]) -> Float[Tensor, "volume column"]:
    return torch.view_as_real(values).flatten(-2)


def _random_points(n: int, box_size: int, radius: int, seed: int) -> Float[Tensor, "point 3"]:
    """Uniform over the points of central slices: a random direction, a radius of density ``r``."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(n, 3, generator=generator)
    length = (radius / box_size) * torch.rand(n, 1, generator=generator).sqrt()
    return direction / direction.norm(dim=-1, keepdim=True) * length
