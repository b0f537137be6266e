"""What differs from image to image: conformation, orientation, shift and contrast transfer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import CTFParams, Pose
from cryoem.rotations import random_rotations

_LARGEST_ASTIGMATISM = 500.0  # A


@dataclass(frozen=True)
class Acquisition:
    """One row per image. ``pose.shift`` centres the image (pixels); all float64."""

    coordinate: Float[Tensor, " image"]
    state: Int64[Tensor, " image"]
    pose: Pose
    ctf: CTFParams | None


def draw_poses(n: int, shift_pixels: float, generator: torch.Generator) -> Pose:
    """Uniform orientations; shifts uniform within ``+- shift_pixels`` on each axis."""
    rotation = random_rotations(n, generator)
    shift = _uniform(n, -shift_pixels, shift_pixels, generator, columns=2)
    return Pose(rotation, shift)


def draw_ctf(
    n: int,
    defocus_range_micrometres: Sequence[float],
    astigmatism_angstrom: float,
    voltage_kilovolts: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    b_factor_angstrom2: float,
    generator: torch.Generator,
) -> CTFParams:
    """Mean defocus uniform in a range, astigmatism half-normal (at most 500 A) at any angle."""
    low, high = (1e4 * value for value in defocus_range_micrometres)
    mean = _uniform(n, low, high, generator)
    spread = torch.randn(n, generator=generator, dtype=torch.float64).abs() * astigmatism_angstrom
    difference = spread.clamp(max=_LARGEST_ASTIGMATISM)
    angle = _uniform(n, 0.0, 180.0, generator)

    def same(value: float) -> Tensor:
        return torch.full((n,), value, dtype=torch.float64)

    return CTFParams(
        defocus_u_angstrom=mean + difference / 2,
        defocus_v_angstrom=mean - difference / 2,
        defocus_angle_degrees=angle,
        voltage_kilovolts=same(voltage_kilovolts),
        spherical_aberration_mm=same(spherical_aberration_mm),
        amplitude_contrast=same(amplitude_contrast),
        phase_shift_degrees=same(0.0),
        b_factor_angstrom2=same(b_factor_angstrom2),
        scale=same(1.0),
    )


def draw_states(
    n: int, coordinates: Float[Tensor, " state"], generator: torch.Generator
) -> Int64[Tensor, "{n}"]:
    """Number of the conformation of each image: equally many of each (to one), shuffled."""
    state = torch.arange(n) % len(coordinates)
    return state[torch.randperm(n, generator=generator)]


def draw_coordinates(
    n: int, low: float, high: float, generator: torch.Generator
) -> Float[Tensor, "{n}"]:
    """Uniform coordinates, one conformation per image."""
    return _uniform(n, low, high, generator)


def nearest_state(
    coordinate: Float[Tensor, " image"],
    states: Float[Tensor, " state"],
    period: float | None,
) -> Int64[Tensor, " image"]:
    """Index of the nearest of some coordinates, on a circle of ``period`` if one is given."""
    distance = coordinate[:, None] - states
    if period is not None:
        distance = torch.remainder(distance + period / 2, period) - period / 2
    return distance.abs().argmin(dim=1)


def _uniform(
    n: int, low: float, high: float, generator: torch.Generator, columns: int | None = None
) -> Tensor:
    shape = (n,) if columns is None else (n, columns)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
