"""How far poses are from the true ones, once both are in one frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import Pose
from cryoem.rotations import angle_between


@dataclass(frozen=True)
class PoseErrors:
    """Errors of each particle, float64.

    Attributes
    ----------
    angle_degrees
        Geodesic; random rotations have a mean of ``pi/2 + 2/pi`` = 126.48 and a median of 132.35.
    frobenius2
        ``|A - B|^2 = 8 sin^2(angle / 2)``, the "squared error" of cryoDRGN's papers; at most 8.
    viewing_degrees
        Between the two viewing directions; 90 on average for random rotations.
    in_plane_degrees
        Size of the turn about the viewing direction that is left when the directions have been
        brought together the short way. Unlike a difference of Euler angles it is well defined at
        their poles. 90 on average for random rotations.
    shift_pixels
        Distance between the shifts.
    """

    angle_degrees: Float[Tensor, " particle"]
    frobenius2: Float[Tensor, " particle"]
    viewing_degrees: Float[Tensor, " particle"]
    in_plane_degrees: Float[Tensor, " particle"]
    shift_pixels: Float[Tensor, " particle"]

    def summary(self, pixel_size_angstrom: float) -> dict[str, float]:
        """Means, medians and shares, named with their units."""
        angle, shift = self.angle_degrees, self.shift_pixels
        return {
            "rotation_median_degrees": float(angle.median()),
            "rotation_mean_degrees": float(angle.mean()),
            "rotation_p90_degrees": float(angle.quantile(0.9)),
            "rotation_share_below_5_degrees": float((angle < 5).double().mean()),
            "rotation_share_below_10_degrees": float((angle < 10).double().mean()),
            "rotation_median_frobenius2": float(self.frobenius2.median()),
            "rotation_mean_frobenius2": float(self.frobenius2.mean()),
            "viewing_direction_median_degrees": float(self.viewing_degrees.median()),
            "viewing_direction_mean_degrees": float(self.viewing_degrees.mean()),
            "in_plane_median_degrees": float(self.in_plane_degrees.median()),
            "in_plane_mean_degrees": float(self.in_plane_degrees.mean()),
        } | shift_summary(shift, pixel_size_angstrom)


def pose_errors(
    found: Pose, truth: Pose, symmetry: Float[Tensor, "element 3 3"] | None = None
) -> PoseErrors:
    """Compare poses particle by particle, in the frame that they are given in.

    Parameters
    ----------
    found, truth
        Row by row the same particles; shifts in the same pixels.
    symmetry
        Rotations of the true volume onto itself; the nearest equivalent of each true pose counts.
    """
    a, b = truth.rotation.double(), found.rotation.double()
    if symmetry is not None:
        a = nearest_equivalent(b, a, symmetry)
    return PoseErrors(
        angle_degrees=angle_between(a, b),
        frobenius2=(a - b).square().sum((-2, -1)),
        viewing_degrees=_angle_of_vectors(a[:, 2], b[:, 2]),
        in_plane_degrees=_twist(b @ a.mT).abs(),
        shift_pixels=shift_distance(found, truth),
    )


def shift_distance(found: Pose, truth: Pose) -> Float[Tensor, " particle"]:
    """Distance between the shifts of each particle, in pixels."""
    return (found.shift.double() - truth.shift.double()).norm(dim=-1)


def shift_summary(
    distance: Float[Tensor, " particle"], pixel_size_angstrom: float
) -> dict[str, float]:
    """Median, mean and root mean square, in pixels and angstrom."""
    pixels = {
        "median": float(distance.median()),
        "mean": float(distance.mean()),
        "rms": float(distance.square().mean().sqrt()),
    }
    return {f"shift_{name}_pixels": value for name, value in pixels.items()} | {
        f"shift_{name}_angstrom": value * pixel_size_angstrom for name, value in pixels.items()
    }


def nearest_equivalent(
    found: Float[Tensor, "particle 3 3"],
    truth: Float[Tensor, "particle 3 3"],
    symmetry: Float[Tensor, "element 3 3"],
) -> Float[Tensor, "particle 3 3"]:
    """Of the equivalent rotations ``A g^T`` of each particle, the one nearest to what was found."""
    best = truth
    best_trace = torch.full_like(truth[:, 0, 0], -torch.inf)
    for element in symmetry.to(truth):
        equivalent = truth @ element.T
        trace = (found * equivalent).sum((-2, -1))
        better = trace > best_trace
        best = torch.where(better[:, None, None], equivalent, best)
        best_trace = torch.where(better, trace, best_trace)
    return best


def _angle_of_vectors(
    a: Float[Tensor, "particle 3"], b: Float[Tensor, "particle 3"]
) -> Float[Tensor, " particle"]:
    # both functions of the angle, so that neither end loses digits
    return torch.rad2deg(torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1)))


def _twist(turn: Float[Tensor, "particle 3 3"]) -> Float[Tensor, " particle"]:
    """Angle (degrees) about z in the swing-twist decomposition of a rotation.

    In Euler angles ZYZ the two sums below are ``(1 + cos b)`` times sine and cosine of ``a + c``.
    """
    sine = turn[:, 1, 0] - turn[:, 0, 1]
    cosine = turn[:, 0, 0] + turn[:, 1, 1]
    return torch.rad2deg(torch.atan2(sine, cosine))
