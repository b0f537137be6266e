"""What pixels of a particle must be: finite, not huge, and not all the same."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.table import ParticleTable

HUGE = 1e12  # root mean square; the power of a transform of 4096 x 4096 such pixels still is finite


def check_finite(
    images: Float[Tensor, "batch side side"], index: Int64[Tensor, " batch"], table: ParticleTable
) -> None:
    """Refuse NaN, infinite and huge pixels, with the rows named.

    Raises
    ------
    InputError
        If there are any.
    """
    if images.is_cuda:
        return  # checked when they were loaded
    # one pass without a mask: what is wrong in one pixel shows in the root mean square
    side = images.shape[-1]
    norm = torch.linalg.vector_norm(images, dim=(-2, -1), dtype=torch.float32)
    suspects = ~(norm <= HUGE * side)
    if suspects.any():
        finite = images[suspects].isfinite().flatten(1).all(dim=1)
        _refuse(index[suspects][~finite], table, "pixels that are not finite (NaN or infinity)")
        _refuse(index[suspects], table, f"pixels of {HUGE:g} and more, whose power overflows")


def check_varied(
    images: Float[Tensor, "batch side side"], index: Int64[Tensor, " batch"], table: ParticleTable
) -> None:
    """Refuse images without any contrast, with the rows named.

    Raises
    ------
    InputError
        If there are any.
    """
    _refuse(index[are_constant(images)], table, "the same value in every pixel")


def suspects(
    images: Float[Tensor, "n side side"], place: Int64[Tensor, " batch"]
) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Which of the images at these places may be refused, and which may be constant.

    Quick: one pass over what lies scattered. What is found is for :func:`check_finite` and
    :func:`are_constant` to judge.
    """
    side = images.shape[-1]
    # each by itself: to index with all places would copy them
    norms = [torch.linalg.vector_norm(images[k], dtype=torch.float32) for k in place.tolist()]
    middle = images[place, side // 2]
    return ~(torch.stack(norms) <= HUGE * side), middle.amin(1) == middle.amax(1)


def are_constant(images: Float[Tensor, "batch side side"]) -> Bool[Tensor, " batch"]:
    """Which images have the same value everywhere; where the middle row varies, that is enough."""
    middle = images[:, images.shape[1] // 2]
    constant = middle.amin(1) == middle.amax(1)
    suspects = images[constant].flatten(1)
    constant[constant.clone()] = (suspects == suspects[:, :1]).all(1)
    return constant


def _refuse(index: Int64[Tensor, " bad"], table: ParticleTable, what: str) -> None:
    if len(index) == 0:
        return
    rows = table.row[index.numpy()]
    names = ", ".join(str(int(row)) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    row = "row" if len(rows) == 1 else "rows"
    raise InputError(
        f"{table.path}: {row} {names} (from 0): the image has {what}; "
        "leave such particles out (data.select, or --select)"
    )
