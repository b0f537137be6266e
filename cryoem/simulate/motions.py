"""Motions with a known coordinate: the molecules of which data sets are simulated."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.simulate.beads import BeadModel, assemble, fill_ellipsoid


@dataclass(frozen=True)
class Motion(ABC):
    """A molecule with one conformational coordinate. It knows no image, box or microscope.

    The coordinate runs from ``low`` to ``high``; where the motion is ``circular`` these are the
    same conformation. ``moving_domain`` is the number of the domain that moves, or None.
    """

    name: str
    beads: BeadModel
    low: float
    high: float
    circular: bool
    moving_domain: int | None

    @abstractmethod
    def conformation(self, coordinate: Float[Tensor, " n"]) -> Float[Tensor, "n bead 3"]:
        """Positions in angstrom, float64."""


@dataclass(frozen=True)
class Still(Motion):
    """A molecule that does not move, whatever the coordinate."""

    def conformation(self, coordinate: Float[Tensor, " n"]) -> Float[Tensor, "n bead 3"]:
        """Return the same positions for every coordinate."""
        return self.beads.positions.expand(len(coordinate), -1, -1)


def still(name: str, beads: BeadModel) -> Still:
    """Let beads rest, at coordinate 0."""
    return Still(name, beads, low=0.0, high=0.0, circular=False, moving_domain=None)


@dataclass(frozen=True)
class HingeMotion(Motion):
    """One domain turns about an axis through a hinge; the coordinate is the angle in degrees."""

    hinge: Float[Tensor, " 3"]
    axis: Float[Tensor, " 3"]

    def conformation(self, coordinate: Float[Tensor, " n"]) -> Float[Tensor, "n bead 3"]:
        """Turn the moving domain by each angle, right-handed about ``axis``."""
        angle = torch.deg2rad(coordinate.double())
        turn = roma.rotvec_to_rotmat(angle[:, None] * self.axis)
        moving = self.beads.domain == self.moving_domain
        arm = self.beads.positions[moving] - self.hinge
        positions = self.beads.positions.repeat(len(coordinate), 1, 1)
        positions[:, moving] = arm @ turn.mT + self.hinge
        return positions


def spread(motion: Motion, n: int) -> Float[Tensor, "{n}"]:
    """Return ``n`` evenly spaced coordinates over the whole range, without repeating a state."""
    if motion.circular:
        return motion.low + (motion.high - motion.low) * torch.arange(n).double() / n
    if n == 1:
        return torch.tensor([(motion.low + motion.high) / 2], dtype=torch.float64)
    return torch.linspace(motion.low, motion.high, n, dtype=torch.float64)


def _centred(motion: HingeMotion) -> HingeMotion:
    """Move the origin to the centroid, averaged over the whole range (not each conformation's)."""
    share = motion.beads.weights / motion.beads.weights.sum()
    centroid = (motion.conformation(spread(motion, 360)).mean(0) * share[:, None]).sum(0)
    beads = replace(motion.beads, positions=motion.beads.positions - centroid)
    return replace(motion, beads=beads, hinge=motion.hinge - centroid)


def _vector(x: float, y: float, z: float) -> Float[Tensor, " 3"]:
    return torch.tensor([x, y, z], dtype=torch.float64)


def _about_y(degrees: float) -> Float[Tensor, "3 3"]:
    """Turn z towards x by a positive angle."""
    return roma.rotvec_to_rotmat(_vector(0.0, math.radians(degrees), 0.0))


def igg_circular_1d() -> HingeMotion:
    """An IgG-like particle of 150 kDa whose second Fab sweeps a full cone of 45 degrees.

    Three ellipsoids of 455 residues about a hinge: Fc down the z axis, one Fab at rest, the other
    turning about an axis tilted by 40 degrees. Its latent space is a ring.
    """
    long_axis = 38.0  # A, and the gap between hinge and Fab is 8 A

    def fab(hinge: Tensor, tilt_degrees: float, seed: int) -> Tensor:
        body = fill_ellipsoid(455, (18.0, 22.0, long_axis), seed)
        return (body + _vector(0.0, 0.0, long_axis + 8.0)) @ _about_y(tilt_degrees).T + hinge

    hinge = _vector(-6.0, 0.0, 6.0)
    fc = fill_ellipsoid(455, (22.0, 18.0, long_axis), seed=1) - _vector(0.0, 0.0, long_axis + 6.0)
    resting = fab(_vector(6.0, 0.0, 6.0), 60.0, seed=4)
    turning = fab(hinge, -40.0 - 45.0, seed=7)
    axis = _about_y(-40.0) @ _vector(0.0, 0.0, 1.0)
    motion = HingeMotion(
        "igg_circular_1d", assemble([fc, resting, turning]), 0.0, 360.0, True, 2, hinge, axis
    )
    return _centred(motion)


def _complex_with_arm(name: str, angles: tuple[float, float], axis: Tensor) -> HingeMotion:
    """A chiral complex of 250 kDa with a moving arm of 50 kDa.

    It has no plane of symmetry, and most of its mass rests: otherwise a rigid volume in other
    poses explains a moving one, and orientations cannot be found from the images.
    """

    def domain(
        n: int, axes: tuple[float, float, float], turn: Tensor, centre: Tensor, seed: int
    ) -> Tensor:
        return fill_ellipsoid(n, axes, seed) @ roma.rotvec_to_rotmat(turn).T + centre

    def arm(
        n: int, axes: tuple[float, float, float], offset: float, hinge: Tensor, seed: int
    ) -> Tensor:
        raised = _about_y(-math.copysign(35.0, offset))
        return (fill_ellipsoid(n, axes, seed) + _vector(offset, 0.0, 0.0)) @ raised.T + hinge

    hinge = _vector(36.0, 0.0, 22.0)
    core = fill_ellipsoid(700, (42.0, 32.0, 30.0), seed=11)
    moving = arm(450, (40.0, 22.0, 16.0), 44.0, hinge, seed=12)
    resting = arm(400, (36.0, 20.0, 18.0), -40.0, _vector(-30.0, 0.0, 22.0), seed=13)
    head = domain(420, (34.0, 20.0, 16.0), _vector(0.6, 0.0, 0.3), _vector(-8.0, 46.0, 14.0), 14)
    foot = domain(300, (24.0, 18.0, 15.0), _vector(0.0, 0.7, 0.5), _vector(6.0, -24.0, -42.0), 15)
    beads = assemble([core, moving, resting, head, foot])
    low, high = angles
    return _centred(HingeMotion(name, beads, low, high, high - low == 360.0, 1, hinge, axis))


def linear_1d() -> HingeMotion:
    """A complex of which one arm opens and closes by 70 degrees.

    After the linear 1D motion of Zhong et al., ICLR 2020. Positive angles raise the arm.
    """
    return _complex_with_arm("linear_1d", (-35.0, 35.0), _vector(0.0, -1.0, 0.0))  # x towards z


def circular_1d() -> HingeMotion:
    """The same complex, its arm turning on a cone about an axis 35 degrees away.

    After the circular 1D motion of Zhong et al., ICLR 2020. Its latent space is a ring.
    """
    return _complex_with_arm("circular_1d", (0.0, 360.0), _vector(1.0, 0.0, 0.0))


MOTIONS: dict[str, Callable[[], Motion]] = {
    "igg_circular_1d": igg_circular_1d,
    "linear_1d": linear_1d,
    "circular_1d": circular_1d,
}
