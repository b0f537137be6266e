"""Random access to the images of a particle file: headers when it is opened, pixels on demand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.geometry import ImageGeometry
from cryoem.io.mrc import read_mrc_header
from cryoem.io.shards import AGAIN, checksums_of, read_checksums, read_index, shard_folder
from cryoem.io.stack_reader import StackReader
from cryoem.io.table import ParticleTable, read_table


@runtime_checkable
class ParticleSource(Protocol):
    """Raw images by their row in ``table``. It knows nothing of signs, windows or Fourier space."""

    @property
    def table(self) -> ParticleTable:
        """What is known of each particle."""
        ...

    @property
    def geometry(self) -> ImageGeometry:
        """Sampling of the images."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """float16 where the files have it, so that images take no more memory than disk."""
        ...

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Return the images at these rows of the table, float32 on the CPU, in this order."""
        ...

    def read_into(
        self,
        images: Float[Tensor, "n side side"],
        place: Int64[Tensor, " batch"],
        index: Int64[Tensor, " batch"],
    ) -> None:
        """Read each of these rows to its place in ``images``; fastest if that has ``dtype``."""
        ...

    def disk_order(self, index: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Places in ``index`` in the order in which their images lie on disk."""
        ...


@dataclass(frozen=True)
class StackSource:
    """Images in MRC stacks. It can be sent to worker processes; use one per thread.

    ``checksums`` are those of shards, one per row of the table: whatever is read is compared.
    """

    table: ParticleTable
    geometry: ImageGeometry
    reader: StackReader
    checksums: np.ndarray | None = None

    @property
    def dtype(self) -> torch.dtype:
        """float16 where the files have it, so that images take no more memory than disk."""
        return torch.from_numpy(np.empty(0, self.reader.dtype)).dtype

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Return the images at these rows of the table, float32 on the CPU, in this order."""
        side = self.table.box_size
        images = torch.empty(len(index), side, side)
        self.read_into(images, torch.arange(len(index)), index)
        return images

    def read_into(
        self,
        images: Float[Tensor, "n side side"],
        place: Int64[Tensor, " batch"],
        index: Int64[Tensor, " batch"],
    ) -> None:
        """Read each of these rows to its place in ``images``; fastest if that has ``dtype``."""
        rows, stored = index.numpy(), images
        if self.checksums is not None and images.dtype != self.dtype:
            stored = torch.empty(images.shape, dtype=self.dtype)
        stack, frame = self.table.stack[rows], self.table.frame[rows]
        self.reader.read_into(stored.numpy(), place.numpy(), stack, frame)
        if self.checksums is not None:
            self._compare(checksums_of(stored.numpy(), place.numpy()), rows)
        if stored is not images:
            images[place] = stored[place].to(images.dtype)

    def _compare(self, found: np.ndarray, rows: np.ndarray) -> None:
        assert self.checksums is not None
        bad = rows[found != self.checksums[rows]]
        if len(bad):
            raise InputError(
                f"{self.table.stacks[self.table.stack[bad[0]]]}: the shard is damaged, image "
                f"{self.table.frame[bad[0]] + 1} does not have the checksum it was written with; "
                f"{AGAIN}"
            )

    def disk_order(self, index: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Places in ``index`` in the order in which their images lie on disk."""
        rows = index.numpy()
        return torch.from_numpy(np.lexsort((self.table.frame[rows], self.table.stack[rows])))


def open_particles(
    path: str | Path,
    *,
    root: str | Path | None = None,
    passthrough: str | Path | None = None,
    poses: str | Path | None = None,
    ctf: str | Path | None = None,
    select: str | Path | None = None,
    pixel_size_angstrom: float | None = None,
) -> ParticleSource:
    """Open a particle file or a folder of shards; only headers are read.

    The parameters are those of :func:`cryoem.io.table.read_table`.

    Raises
    ------
    InputError
        If a file is missing, damaged or unusable; the message says which and what to do.
    """
    table = read_table(
        path,
        root=root,
        passthrough=passthrough,
        poses=poses,
        ctf=ctf,
        select=select,
        pixel_size_angstrom=pixel_size_angstrom,
        need_images=True,
    )
    if table.box_size % 2:
        raise InputError(
            f"{table.stacks[0]}: box size must be even, got {table.box_size}; crop or pad by one"
        )
    if table.box_size < 8:
        raise InputError(f"{table.stacks[0]}: box size must be at least 8, got {table.box_size}")
    geometry = ImageGeometry(len(table), table.box_size, _common(table.pixel_size_angstrom))
    reader = StackReader([read_mrc_header(stack) for stack in table.stacks])
    folder = shard_folder(Path(path))
    checksums = None if folder is None else read_checksums(read_index(folder))[table.row]
    return StackSource(table, geometry, reader, checksums)


def _common(pixel_sizes: np.ndarray) -> float:
    """Most frequent pixel size: the volume gets that of most of its particles."""
    values, counts = np.unique(pixel_sizes, return_counts=True)
    return float(values[np.argmax(counts)])
