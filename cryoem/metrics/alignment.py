"""The frame, hand and origin in which found poses and a decoder agree best with the truth.

Poses found from images alone are free up to a rotation ``Q`` of the volume, its mirror image and
its origin: ``A_i ~ (J^h B_i J^h) Q`` with true rotations ``A``, found ones ``B``, the hand ``h``
(0 or 1), ``J = diag(1, 1, -1)``, and shifts ``t_B ~ t_A + (B u)_xy``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.analysis.decode import decode_volumes
from cryoem.batch import Pose
from cryoem.decoders.base import Decoder, LinearDecoder, Windowed
from cryoem.metrics.pose_error import nearest_equivalent
from cryoem.rotations import angle_between
from cryoem.simulate.map_specimen import GriddedTransform
from cryoem.volume import evaluate_volumes

_CANDIDATES = 200
_VOTERS = 2000
_ROUNDS = 10
_AMBIGUOUS = 0.9


@dataclass(frozen=True)
class Alignment:
    """How to turn what was found into the frame of the truth.

    Attributes
    ----------
    rotation
        ``Q``, float64.
    flipped
        Whether the found volume is the mirror image of the true one.
    origin
        ``u`` in pixels: where the centre of the true volume lies in the found one.
    hand_medians_degrees
        Median angle of the poses to the true ones, as found and mirrored.
    """

    rotation: Float[Tensor, "3 3"]
    flipped: bool
    origin: Float[Tensor, " 3"]
    hand_medians_degrees: tuple[float, float]

    @property
    def hand_ambiguous(self) -> bool:
        """Whether both hands fit about as well: the poses say nothing then."""
        low, high = sorted(self.hand_medians_degrees)
        return low > _AMBIGUOUS * high

    def in_frame_of_truth(self, found: Pose) -> Pose:
        """Poses that belong to the volume that :func:`align_decoder` makes; float64."""
        rotation, shift = found.rotation.double(), found.shift.double()
        seen = (rotation @ self.origin)[:, :2]
        return Pose(_hand(rotation, self.flipped) @ self.rotation, shift - seen)


def align_poses(
    found: Pose,
    truth: Pose,
    symmetry: Float[Tensor, "element 3 3"] | None = None,
    seed: int = 0,
    flipped: bool | None = None,
) -> Alignment:
    """Find the best frame, hand and origin.

    For both hands, 200 particles each propose the ``Q`` that makes their own pose right, at most
    2000 vote by the median of their angles, and ten rounds of Procrustes on the inliers (angle
    below 10 degrees or three medians) refine the winner. The origin is the least-squares solution
    on the inliers.

    Parameters
    ----------
    found, truth
        Row by row the same particles; shifts in the same pixels.
    symmetry
        Rotations of the true volume onto itself.
    seed
        Of the choice of particles.
    flipped
        The hand, where it is known.
    """
    a, b = truth.rotation.double(), found.rotation.double()
    group = torch.eye(3, dtype=a.dtype)[None] if symmetry is None else symmetry.to(a)
    fits = [_fit_rotation(_hand(b, hand), a, group, seed) for hand in (False, True)]
    if flipped is None:
        flipped = fits[1].median < fits[0].median
    best = fits[flipped]
    origin = _fit_origin(found, truth, best.inlier)
    return Alignment(best.rotation, flipped, origin, (fits[0].median, fits[1].median))


class AlignedDecoder:
    """A decoder seen in the frame of the truth: queried at turned frequencies, never resampled.

    ``V_A(q) = V_B(p) exp(2 pi i p u)`` at ``p = q Q^T J^h``. The window of a decoder that
    interpolates on a grid holds for the points of that grid only: see :func:`aligned_volumes`.
    """

    def __init__(self, decoder: Decoder, alignment: Alignment) -> None:
        self.decoder = decoder
        self.latent_dim = decoder.latent_dim
        turn = alignment.rotation.T.clone()
        if alignment.flipped:
            turn[:, 2] *= -1
        self.turn = turn
        self.origin = alignment.origin

    def __call__(
        self,
        freqs: Float[Tensor, "#batch freq 3"],
        z: Float[Tensor, "#batch latent"] | None = None,
    ) -> Complex[Tensor, "#batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs`` of the truth's frame."""
        points = freqs @ self.turn.to(freqs)
        return self.decoder(points, z) * self._phase(points)

    def _phase(self, points: Float[Tensor, "batch freq 3"]) -> Complex[Tensor, "batch freq"]:
        # cycles/pixel * pixels * radians/cycle = radians
        angle = (2 * math.pi) * (points @ self.origin.to(points))
        return torch.polar(torch.ones_like(angle), angle)


class AlignedLinearDecoder(AlignedDecoder):
    """The same for a decoder that is linear in its latent, which it stays."""

    decoder: LinearDecoder  # type: ignore[assignment]

    def basis(
        self, freqs: Float[Tensor, "batch freq 3"]
    ) -> Complex[Tensor, "batch freq component"]:
        """Mean and components at ``freqs`` of the truth's frame."""
        points = freqs @ self.turn.to(freqs)
        return self.decoder.basis(points) * self._phase(points)[..., None]


def align_decoder(decoder: Decoder, alignment: Alignment) -> AlignedDecoder:
    """Turn a decoder into the frame of the truth."""
    linear = isinstance(decoder, LinearDecoder)
    return (AlignedLinearDecoder if linear else AlignedDecoder)(decoder, alignment)


class DensityDecoder:
    """A volume on a grid as a decoder: its exact transform at any frequency.

    Up to a constant, which no image tells: the mean of its faces is taken as the solvent, zero, so
    that nothing ends abruptly where the box does.

    Parameters
    ----------
    density
        On the CPU, as are the frequencies.
    """

    latent_dim = 0

    def __init__(self, density: Float[Tensor, "side side side"]) -> None:
        faces = torch.stack([density[0], density[:, 0], density[:, :, 0]])
        self.transform = GriddedTransform(density - faces.mean())
        self.side = density.shape[0]

    def __call__(
        self,
        freqs: Float[Tensor, "#batch freq 3"],
        z: Float[Tensor, "#batch latent"] | None = None,
    ) -> Complex[Tensor, "#batch freq"]:
        """Evaluate at ``freqs``; there is no ``z``."""
        return self.transform(freqs.flatten(0, 1)).view(freqs.shape[:2]) / self.side


def aligned_volumes(
    decoders: Sequence[Decoder],
    side: int,
    z: Float[np.ndarray, "volume latent"] | None,
    alignment: Alignment,
    *,
    data_scale: float,
    device: torch.device,
) -> Iterator[Float[np.ndarray, "z y x"]]:
    """Yield what :func:`cryoem.analysis.decode.decode_volumes` does, in the frame of the truth.

    Decoders that interpolate on a grid are evaluated on it, where their window is known, and the
    transform of that density is queried in their place. Between the points of the grid the ghosts
    of linear interpolation fold into the box and took several per cent of the FSC.
    """
    if any(isinstance(d, Windowed) and d.real_space_window(side).ndim for d in decoders):
        native = decode_volumes(decoders, side, z, data_scale=data_scale, device=device)
        for density in native:
            turned = align_decoder(DensityDecoder(torch.from_numpy(density)), alignment)
            yield evaluate_volumes(turned, side, None, torch.device("cpu"))[0].numpy()
        return
    aligned = [align_decoder(decoder, alignment) for decoder in decoders]
    yield from decode_volumes(aligned, side, z, data_scale=data_scale, device=device)


@dataclass(frozen=True)
class _Fit:
    rotation: Float[Tensor, "3 3"]
    median: float
    inlier: Tensor


def _fit_rotation(
    b: Float[Tensor, "particle 3 3"],
    a: Float[Tensor, "particle 3 3"],
    group: Float[Tensor, "element 3 3"],
    seed: int,
) -> _Fit:
    rotation = _vote(b, a, group, seed)
    for _ in range(_ROUNDS):
        equivalent = nearest_equivalent(b @ rotation, a, group)
        inlier = _inliers(angle_between(b @ rotation, equivalent))
        rotation = _procrustes((b[inlier].mT @ equivalent[inlier]).sum(0))
    angle = angle_between(b @ rotation, nearest_equivalent(b @ rotation, a, group))
    return _Fit(rotation, float(angle.median()), _inliers(angle))


def _vote(
    b: Float[Tensor, "particle 3 3"],
    a: Float[Tensor, "particle 3 3"],
    group: Float[Tensor, "element 3 3"],
    seed: int,
) -> Float[Tensor, "3 3"]:
    """Of the proposals of some particles, the one with the least median angle over others."""
    order = torch.randperm(len(b), generator=torch.Generator().manual_seed(seed)).to(b.device)
    relative = b[order[:_VOTERS]].mT @ a[order[:_VOTERS]]
    proposals = relative[:_CANDIDATES]
    # the larger the trace of A^T B Q g, the smaller the angle
    traces = [
        (relative @ element.T).flatten(1) @ proposals.flatten(1).T for element in group.unbind()
    ]
    best = torch.stack(traces).amax(0)
    return proposals[best.median(dim=0).values.argmax()]


def _inliers(angle_degrees: Float[Tensor, " particle"]) -> Tensor:
    return angle_degrees <= torch.clamp(3 * angle_degrees.median(), min=10.0)


def _procrustes(moment: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Rotation nearest to a sum of rotations (Kabsch 1976)."""
    u, _, vt = torch.linalg.svd(moment)
    sign = torch.ones_like(moment[0])
    sign[2] = torch.linalg.det(u @ vt)
    return (u * sign) @ vt


def _fit_origin(found: Pose, truth: Pose, inlier: Tensor) -> Float[Tensor, " 3"]:
    """Solve ``t_B - t_A = (B u)_xy`` for ``u``; the third row of ``B`` is along the view."""
    rows = found.rotation.double()[inlier, :2].flatten(0, 1)
    offset = (found.shift.double() - truth.shift.double())[inlier].flatten()
    # pseudo-inverse: what no view tells (all along one direction) stays zero
    return torch.linalg.pinv(rows.T @ rows, hermitian=True) @ (rows.T @ offset)


def _hand(rotation: Float[Tensor, "particle 3 3"], flipped: bool) -> Float[Tensor, "particle 3 3"]:
    """``J R J`` for the other hand: the pose in which the mirrored volume looks the same."""
    if not flipped:
        return rotation
    mirror = torch.tensor([1.0, 1.0, -1.0]).to(rotation)
    return mirror[:, None] * rotation * mirror
