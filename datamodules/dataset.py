"""Particles by row number, a whole batch per read."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from cryoem.batch import RawBatch
from cryoem.errors import InputError
from cryoem.io.table import ParticleTable


@runtime_checkable
class ImageStore(Protocol):
    """Where images come from: a file, or memory."""

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Images of these rows."""
        ...


class ParticleDataset(Dataset[RawBatch]):
    """Images with what belongs to each.

    Parameters
    ----------
    images
        Store of the images, by row of ``table``.
    table
        CTF and pixel size of each particle, and what to call it when something is wrong.
    half
        0 or 1 for each particle: rows of a batch are ordered by it. None: as asked for.
    """

    def __init__(
        self,
        images: ImageStore,
        table: ParticleTable,
        half: Int64[Tensor, " particle"] | None = None,
    ) -> None:
        self.images = images
        self.table = table
        self.half = half
        self.pixel_size_angstrom = torch.from_numpy(table.pixel_size_angstrom).float()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> RawBatch:
        return self.rows(torch.tensor([row]))

    def __getitems__(self, rows: list[int]) -> RawBatch | InputError:
        """One batch, read at once; a loader calls this.

        What is wrong with the input is returned, not raised: an exception that crosses from a
        worker takes its traceback into the message. The loader raises it.
        """
        try:
            return self.rows(torch.tensor(rows, dtype=torch.int64))
        except InputError as error:
            return error

    def rows(self, index: Int64[Tensor, " batch"]) -> RawBatch:
        """One batch.

        Raises
        ------
        InputError
            If an image cannot be read or holds values that are not finite.
        """
        split = None
        if self.half is not None:
            half = self.half[index]
            index = index[torch.argsort(half, stable=True)]
            split = int((half == 0).sum())
        images = self.images.read(index)
        check_finite(images, index, self.table)
        return RawBatch(
            index=index,
            images=images,
            pixel_size_angstrom=self.pixel_size_angstrom[index],
            ctf=None if self.table.ctf is None else self.table.ctf[index],
            split=split,
        )


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
    # one pass without a mask: a sum is finite only if all its terms are
    bad = ~images.sum(dim=(-2, -1), dtype=torch.float64).isfinite()
    _refuse(index[bad], table, "pixels that are not finite (NaN or infinity)")


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
