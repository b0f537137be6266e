"""How a particle stack is sampled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageGeometry:
    """Sampling of a particle stack.

    Parameters
    ----------
    n_particles
        Number of particles, one image each.
    box_size
        Side of one image in pixels, even.
    pixel_size_angstrom
        Pixel size of the *volume*. Particles may deviate from it (optics groups); their own value
        travels with them in :class:`cryoem.batch.ParticleBatch`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    n_particles: int
    box_size: int
    pixel_size_angstrom: float

    def __post_init__(self) -> None:
        if self.n_particles < 1:
            raise ValueError(f"n_particles must be at least 1, got {self.n_particles}")
        if self.box_size < 8 or self.box_size % 2:
            raise ValueError(f"box_size must be even and at least 8, got {self.box_size}")
        if not self.pixel_size_angstrom > 0:
            raise ValueError(
                f"pixel_size_angstrom must be positive, got {self.pixel_size_angstrom}"
            )
