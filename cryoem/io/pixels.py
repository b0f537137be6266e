"""What pixels of a particle must be: finite, and not all the same."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.table import ParticleTable


def check_finite(
    images: Float[Tensor, "batch side side"], index: Int64[Tensor, " batch"], table: ParticleTable
) -> None:
    """Refuse NaN and infinite pixels, with the rows named.

    Raises
    ------
    InputError
        If there are any.
    """
    if images.is_cuda:
        return  # checked when they were loaded
    # one pass without a mask: a sum is finite only if all its terms are, or else they are huge
    suspects = ~images.sum(dim=(-2, -1), dtype=torch.float32).isfinite()
    if suspects.any():
        bad = ~images[suspects].isfinite().flatten(1).all(dim=1)
        _refuse(index[suspects][bad], table, "pixels that are not finite (NaN or infinity)")


def check_varied(
    images: Float[Tensor, "batch side side"], index: Int64[Tensor, " batch"], table: ParticleTable
) -> None:
    """Refuse images without any contrast, with the rows named.

    Raises
    ------
    InputError
        If there are any.
    """
    flat = images.flatten(1)
    _refuse(index[flat.amin(1) == flat.amax(1)], table, "the same value in every pixel")


def _refuse(index: Int64[Tensor, " bad"], table: ParticleTable, what: str) -> None:
    if len(index) == 0:
        return
    rows = table.row[index.numpy()]
    names = ", ".join(str(int(row)) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    row = "row" if len(rows) == 1 else "rows"
    raise InputError(
        f"{table.path}: {row} {names} (from 0): the image has {what}; "
        "leave such particles out with data.select"
    )
