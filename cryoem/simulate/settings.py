"""The parameters of a simulation, checked before anything is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cryoem.errors import InputError


@dataclass(frozen=True)
class Simulation:
    """What to simulate, from a conformation to the noise.

    Parameters
    ----------
    motion
        A name of :data:`cryoem.simulate.MOTIONS`, or a map or atomic model to read.
    n_particles, box_size, pixel_size_angstrom
        Number of images; side of an image and its sampling.
    resolution_angstrom
        Of bead models, 2.5 pixels where it is None. A map is blurred if it is given.
    snr
        Mean over images of the variance of the clean image (after the CTF, over all pixels of the
        box) by the noise variance, one noise level for all images. ``inf``: no noise; then the
        signal has variance one.
    n_states
        Equally populated, evenly spaced conformations; None for a continuous coordinate.
    shift_pixels
        Shifts are uniform within plus or minus this on each axis.
    ctf
        False for plain projections; then the particle file has no defocus columns.
    defocus_range_micrometres, astigmatism_angstrom
        The mean defocus is uniform, the difference ``U - V`` half-normal with this scale.
    b_factor_angstrom2
        Envelope ``exp(-B s^2 / 4)`` on the CTF, also written to the particle file.
    sign
        ``light``: protein brighter than the background; ``dark``: the images times -1.
    dtype
        Of the stack, ``float32`` or ``float16``.
    seed
        Of every draw; the molecule itself does not depend on it.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    motion: str = "igg_circular_1d"
    n_particles: int = 5000
    box_size: int = 64
    pixel_size_angstrom: float = 6.0
    resolution_angstrom: float | None = None
    snr: float = 0.1
    n_states: int | None = None
    shift_pixels: float = 3.0
    ctf: bool = True
    defocus_range_micrometres: Sequence[float] = (0.8, 2.5)
    astigmatism_angstrom: float = 150.0
    voltage_kilovolts: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    b_factor_angstrom2: float = 0.0
    sign: str = "light"
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.box_size < 8 or self.box_size % 2:
            raise InputError(f"box_size is {self.box_size}; it must be even and at least 8")
        _at_least("n_particles", self.n_particles, 1)
        _positive("pixel_size_angstrom", self.pixel_size_angstrom)
        if self.resolution_angstrom is not None:
            _positive("resolution_angstrom", self.resolution_angstrom)
        if not self.snr > 0:
            raise InputError(f"snr is {self.snr}; it must be positive (inf for no noise)")
        if self.n_states is not None:
            _at_least("n_states", self.n_states, 1)
        if not 0 <= self.shift_pixels < self.box_size / 2:
            raise InputError(
                f"shift_pixels is {self.shift_pixels}; it must be between 0 and half of the box "
                f"({self.box_size // 2})"
            )
        _check_range("defocus_range_micrometres", self.defocus_range_micrometres)
        _at_least("astigmatism_angstrom", self.astigmatism_angstrom, 0)
        _positive("voltage_kilovolts", self.voltage_kilovolts)
        _at_least("spherical_aberration_mm", self.spherical_aberration_mm, 0)
        if not 0 <= self.amplitude_contrast <= 1:
            raise InputError(f"amplitude_contrast is {self.amplitude_contrast}; it lies in [0, 1]")
        _at_least("b_factor_angstrom2", self.b_factor_angstrom2, 0)
        _one_of("sign", self.sign, ("light", "dark"))
        _one_of("dtype", self.dtype, ("float32", "float16"))
        _at_least("seed", self.seed, 0)


def _check_range(name: str, values: Sequence[float]) -> None:
    finite = all(math.isfinite(value) for value in values)
    if len(values) != 2 or not finite or values[0] > values[1]:
        raise InputError(f"{name} is {list(values)}; give two numbers, the smaller first")


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"{name} is {value}; it must be positive")


def _at_least(name: str, value: int | float, least: int) -> None:
    if not least <= value < math.inf:
        raise InputError(f"{name} is {value}; it must be at least {least}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
