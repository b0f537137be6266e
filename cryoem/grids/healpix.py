"""Equal-area pixels on the sphere, numbered as a tree (HEALPix, nested).

Pixel ``p`` of an order has the children ``4 p ... 4 p + 3`` at the next; order ``o`` has ``12 *
4**o`` pixels. The sphere is cut into 12 curved squares with coordinates ``u, v`` in ``[0, 1]``
(``u`` grows to the north-east, ``v`` to the north-west), each of which is a quadtree: the bits of a
pixel number are those of its column and row, in turn. With ``s = 2, 3, 4 - u - v`` for northern,
equatorial and southern squares, ``s`` is constant on circles of latitude. Gorski et al., ApJ 622,
759 (2005), section 5.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

N_BASE = 12


def n_pixels(order: int) -> int:
    """Number of pixels of an order, whose sides are divided in ``2**order``."""
    return N_BASE * 4**order


def children(pixels: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any 4"]:
    """Four pixels of the next order that make up each pixel."""
    return 4 * pixels[..., None] + torch.arange(4, device=pixels.device)


def directions(pixels: Int64[Tensor, "*any"], order: int) -> Float[Tensor, "*any 3"]:
    """Unit vectors (float64) to the centres of pixels."""
    inside = pixels % 4**order
    side = 2**order
    u = (_even_bits(inside).double() + 0.5) / side
    v = (_even_bits(inside >> 1).double() + 0.5) / side
    return _square_to_sphere(pixels >> (2 * order), u, v)


def pixels_of(vectors: Float[Tensor, "*any 3"], order: int) -> Int64[Tensor, "*any"]:
    """Pixels in which unit vectors lie."""
    face, u, v = _sphere_to_square(vectors.double())
    side = 2**order
    column = (u * side).long().clamp(0, side - 1)
    row = (v * side).long().clamp(0, side - 1)
    return (face << (2 * order)) | _spread_bits(column) | (_spread_bits(row) << 1)


def covering_radius(order: int) -> float:
    """Angle (radians) from the centre of a pixel that no point of any pixel exceeds.

    A straight line in ``u, v`` from the centre to a point of the pixel has ``|du|, |dv| <= h = 1 /
    (2 * 2**order)``. Its length on the sphere is a convex function of ``(du, dv)``, so the longest
    ends in a corner: ``(h, h)`` moves by ``ds = 2 h``. At ``1 - z^2 = s^2 q`` with ``q = (2 - s^2 /
    3) / 3`` in ``[5/9, 2/3]`` (polar) that is at most ``h sqrt(16 / (9 q) + pi^2 q / 4)``, which
    is largest at ``q = 5/9``; the corner ``(h, -h)`` and the equatorial zone give less.
    """
    return math.sqrt(3.2 + 5 * math.pi**2 / 36) / 2 ** (order + 1)


def _even_bits(numbers: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """Bits 0, 2, 4 ... pushed together."""
    x = numbers & 0x5555555555555555
    for shift, mask in ((1, 0x3333333333333333), (2, 0x0F0F0F0F0F0F0F0F), (4, 0x00FF00FF00FF00FF),
                        (8, 0x0000FFFF0000FFFF), (16, 0x00000000FFFFFFFF)):  # fmt: skip
        x = (x | (x >> shift)) & mask
    return x


def _spread_bits(numbers: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """Invert :func:`_even_bits`: bit ``i`` goes to ``2 i``."""
    x = numbers
    for shift, mask in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F),
                        (2, 0x3333333333333333), (1, 0x5555555555555555)):  # fmt: skip
        x = (x | (x << shift)) & mask
    return x


def _square_to_sphere(
    face: Int64[Tensor, "*any"], u: Float[Tensor, "*any"], v: Float[Tensor, "*any"]
) -> Float[Tensor, "*any 3"]:
    ring, column = face // 4, face % 4
    s = 2.0 + ring - u - v
    from_pole = torch.minimum(torch.minimum(s, 4 - s), torch.ones_like(s)).clamp_min(1e-300)
    cap = 1 - from_pole.square() / 3
    z = torch.where(s < 1, cap, torch.where(s > 3, -cap, (2 - s) * (2 / 3)))
    # northern and southern squares are centred at 45, 135 ... degrees, equatorial ones at 0, 90 ...
    centre = 2 * column + (ring != 1).long()
    azimuth = (math.pi / 4) * (centre + (u - v) / from_pole)
    # 1 - z^2 = from_pole^2 (2 - from_pole^2 / 3) / 3 in the caps keeps precision at the poles
    in_cap = (s < 1) | (s > 3)
    sine = torch.where(
        in_cap, from_pole * ((2 - from_pole.square() / 3) / 3).sqrt(), (1 - z.square()).sqrt()
    )
    return torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), z], dim=-1)


def _sphere_to_square(
    vectors: Float[Tensor, "*any 3"],
) -> tuple[Int64[Tensor, "*any"], Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    x, y, z = vectors.unbind(-1)
    quarter = (torch.atan2(y, x) * (2 / math.pi)) % 4  # azimuth in right angles, [0, 4)
    polar = _cap_square(quarter, z, torch.hypot(x, y))
    belt = _belt_square(quarter, z)
    in_cap = z.abs() > 2 / 3
    face, u, v = (torch.where(in_cap, a, b) for a, b in zip(polar, belt, strict=True))
    return face, u, v


def _cap_square(
    quarter: Float[Tensor, "*any"], z: Float[Tensor, "*any"], sine: Float[Tensor, "*any"]
) -> tuple[Int64[Tensor, "*any"], Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    column = quarter.floor().clamp(max=3)
    east = quarter - column
    s = sine * (3 / (1 + z.abs())).sqrt()  # = sqrt(3 (1 - |z|)) without cancellation
    north = z > 0
    u = torch.where(north, 1 - s * (1 - east), s * east)
    v = torch.where(north, 1 - s * east, s * (1 - east))
    return column.long() + torch.where(north, 0, 8), u, v


def _belt_square(
    quarter: Float[Tensor, "*any"], z: Float[Tensor, "*any"]
) -> tuple[Int64[Tensor, "*any"], Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    # lines of constant v and u continue through all squares of the belt
    falling = 0.5 + quarter - 0.75 * z
    rising = 0.5 + quarter + 0.75 * z
    down, up = falling.floor().long(), rising.floor().long()
    u, v = rising - up, 1 - (falling - down)
    column = torch.minimum(down, up) % 4
    face = torch.where(up == down, 4 + up % 4, torch.where(up > down, column, 8 + column))
    return face, u, v
