"""Rotations: conversions between matrices and what files and optimisers use.

The convention of the matrices is RELION's Euler matrix ``A``, see :mod:`cryoem.conventions`. The
algebra is roma's; only the conventions are ours.
"""

import math

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def from_relion(
    rot: Float[Tensor, "*batch"], tilt: Float[Tensor, "*batch"], psi: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Euler matrix ``A`` of RELION angles (degrees): ``(Rz(rot) Ry(tilt) Rz(psi))^T``."""
    active = roma.euler_to_rotmat("ZYZ", [rot, tilt, psi], degrees=True)
    return active.mT.contiguous()


def to_relion(
    rotation: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """RELION angles ``rot, tilt, psi`` (degrees, tilt in [0, 180]) of Euler matrices.

    At tilt 0 or 180 only a sum or difference of the other two is defined; ``rot`` is 0 then.
    """
    # A = (Rz(rot) Ry(tilt) Rz(psi))^T: the last row is (sb ca, sb sa, cb), the last column
    # (-sb cg, sb sg, cb). atan2 keeps full precision near the poles, acos would not.
    sin_tilt = torch.hypot(rotation[..., 2, 0], rotation[..., 2, 1])
    tilt = torch.atan2(sin_tilt, rotation[..., 2, 2])
    # Where sin(tilt) is mere rounding, both last row and column are noise.
    pole = sin_tilt < 16 * torch.finfo(rotation.dtype).eps
    rot = torch.atan2(rotation[..., 2, 1], rotation[..., 2, 0])
    psi = torch.atan2(rotation[..., 1, 2], -rotation[..., 0, 2])
    # At tilt 0, A = Rz(psi)^T (rot = 0): its first row is (cos psi, sin psi, 0); at 180 degrees the
    # first row is (-cos psi, sin psi, 0).
    cos_psi = rotation[..., 0, 0] * torch.sign(rotation[..., 2, 2])
    psi_pole = torch.atan2(rotation[..., 0, 1], cos_psi)
    rot = torch.where(pole, torch.zeros_like(rot), rot)
    psi = torch.where(pole, psi_pole, psi)
    return torch.rad2deg(rot), torch.rad2deg(tilt), torch.rad2deg(psi)


def from_cryosparc(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Euler matrix ``A = expm([r]x)^T`` of cryoSPARC's axis-angle vectors (radians)."""
    return roma.rotvec_to_rotmat(axis_angle).mT.contiguous()


def to_cryosparc(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Invert :func:`from_cryosparc`; angles in [0, pi]."""
    return roma.rotmat_to_rotvec(rotation.mT.contiguous())


def from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of unit quaternions ``(x, y, z, w)``, scalar last."""
    return roma.unitquat_to_rotmat(quaternion)


def to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions ``(x, y, z, w)``, scalar last, of rotation matrices."""
    return roma.rotmat_to_unitquat(rotation)


def from_six_numbers(rows: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Gram-Schmidt on two row vectors; the third row is their cross product.

    Zhou et al., CVPR 2019, "On the continuity of rotation representations", eq. 15, with rows in
    place of columns.
    """
    columns = rows.unflatten(-1, (2, 3)).mT
    return roma.special_gramschmidt(columns).mT.contiguous()


def to_six_numbers(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """Return the first two rows, the inverse of :func:`from_six_numbers`."""
    return rotation[..., :2, :].flatten(-2)


def small_rotation(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Exponential map of rotation vectors (radians), differentiable at zero."""
    return roma.rotvec_to_rotmat(rotation_vector)


def random_rotations(n: int, generator: torch.Generator) -> Float[Tensor, "n 3 3"]:
    """Draw uniformly from SO(3): normalised Gaussian quaternions (Shoemake 1992)."""
    quaternion = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return from_quaternion(quaternion / quaternion.norm(dim=-1, keepdim=True))


def angle_between(
    a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Geodesic angle in degrees.

    From the Frobenius norm, ``|A - B|^2 = 8 sin^2(angle / 2)``, which unlike the arc cosine of the
    trace stays accurate for small angles.
    """
    chord = (a - b).flatten(-2).norm(dim=-1) / math.sqrt(8.0)
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1.0)))
