"""Point groups, with axes where RELION puts them, and the part of the sphere they leave."""

import math
import re

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cryoem.errors import InputError
from cryoem.rotations import small_rotation

# Order and direction of the axes that generate a group. The 5-fold axis of the icosahedron is in
# the xz plane (RELION's I, also called I2); T has a 3-fold axis along z, O a 4-fold.
_GOLDEN = (1 + math.sqrt(5)) / 2
_AXES: dict[str, list[tuple[int, tuple[float, float, float]]]] = {
    "T": [(3, (0.0, 0.0, 1.0)), (2, (0.0, math.sqrt(2), 1.0))],
    "O": [(3, (1.0, 1.0, 1.0)), (4, (0.0, 0.0, 1.0))],
    "I": [(2, (0.0, 0.0, 1.0)), (5, (1.0, 0.0, _GOLDEN)), (3, (0.0, 1.0, _GOLDEN**2))],
}
# A direction that no axis of any group passes through.
_REFERENCE = (0.61, 0.23, 0.76)


def symmetry_group(name: str) -> Float[Tensor, "element 3 3"]:
    """All rotations (float64, identity first) that map a volume of this symmetry onto itself.

    Parameters
    ----------
    name
        ``C1``, ``Cn`` (about z), ``Dn`` (2-fold axis along x), ``T``, ``O``, ``I``.

    Raises
    ------
    InputError
        If there is no such group.
    """
    group = torch.eye(3, dtype=torch.float64)[None]
    for order, axis in _generators(name):
        vector = torch.tensor(axis, dtype=torch.float64)
        turn = small_rotation(vector / vector.norm() * (2 * math.pi / order))
        group = _closure(torch.cat([group, turn[None]]))
    return group


def into_asymmetric_unit(
    rotation: Float[Tensor, "*batch 3 3"], group: Float[Tensor, "element 3 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Equivalent rotations, ``A S``, whose viewing direction lies nearest to the reference."""
    group = group.to(rotation)
    equivalent = rotation[..., None, :, :] @ group
    nearest = (equivalent[..., 2, :] @ _reference(group)).argmax(-1)
    index = nearest[..., None, None, None].expand(*nearest.shape, 1, 3, 3)
    return equivalent.gather(-3, index)[..., 0, :, :]


def near_asymmetric_unit(
    directions: Float[Tensor, "*any 3"], group: Float[Tensor, "element 3 3"], angle: float
) -> Bool[Tensor, "*any"]:
    """Whether a point within ``angle`` (radians) of a direction may be in the asymmetric unit.

    The unit holds the points nearer to a reference ``v`` than to any of its images ``S v``. Over
    the ball, ``d (v - S v)`` grows by no more than ``|v - S v|`` times the chord of the angle.
    """
    group = group.to(directions)
    reference = _reference(group)
    walls = reference - group @ reference
    slack = walls.norm(dim=-1) * (2 * math.sin(angle / 2) + 1e-9)
    return (directions @ walls.T >= -slack).all(-1)


def _reference(group: Float[Tensor, "element 3 3"]) -> Float[Tensor, "3"]:
    reference = torch.tensor(_REFERENCE).to(group)
    return reference / reference.norm()


def _generators(name: str) -> list[tuple[int, tuple[float, float, float]]]:
    if name in _AXES:
        return _AXES[name]
    match = re.fullmatch(r"([CD])([1-9]\d{0,2})", name)
    if match is None:
        raise InputError(f"symmetry {name!r} is not a point group\nuse C1, Cn, Dn, T, O or I")
    about_z = (int(match[2]), (0.0, 0.0, 1.0))
    return [about_z] if match[1] == "C" else [about_z, (2, (1.0, 0.0, 0.0))]


def _closure(elements: Float[Tensor, "some 3 3"]) -> Float[Tensor, "element 3 3"]:
    """All products of the given elements, each once; the first is the identity."""
    known = elements[:1]
    while True:
        products = (known[:, None] @ elements[None]).flatten(0, 1)
        size = len(known)
        for product in products:
            if (known - product).abs().amax((-2, -1)).min() > 1e-4:
                known = torch.cat([known, product[None]])
        if len(known) == size:
            return known
