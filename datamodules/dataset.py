"""Particles by row number: images with what belongs to each."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import RawBatch
from cryoem.io.pixels import check_finite
from cryoem.io.table import ParticleTable


@runtime_checkable
class ImageStore(Protocol):
    """Where images come from: files, or memory."""

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Images of these rows, float32."""
        ...


class ParticleDataset:
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

    def rows(self, index: Int64[Tensor, " batch"]) -> RawBatch:
        """Read one batch, wherever its images lie.

        Raises
        ------
        InputError
            If an image cannot be read or holds values that are not finite.
        """
        index = self.by_half(index)
        images = self.images.read(index)
        check_finite(images, index, self.table)
        return self.batch(index, images)

    def by_half(self, index: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Rows of a batch in the order in which it holds them."""
        if self.half is None:
            return index
        return index[torch.argsort(self.half[index], stable=True)]

    def batch(
        self, index: Int64[Tensor, " batch"], images: Float[Tensor, "batch side side"]
    ) -> RawBatch:
        """Join images and what belongs to them; ``index`` is ordered :meth:`by_half`."""
        return RawBatch(
            index=index,
            images=images,
            pixel_size_angstrom=self.pixel_size_angstrom[index],
            ctf=None if self.table.ctf is None else self.table.ctf[index],
            split=None if self.half is None else int((self.half[index] == 0).sum()),
        )
