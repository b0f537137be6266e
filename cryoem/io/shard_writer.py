"""Writes folders of shards, in parallel, and goes on where it was killed."""

import json
import signal
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import Pose
from cryoem.errors import InputError
from cryoem.fourier import fourier_crop
from cryoem.io.atomic import atomic_path
from cryoem.io.export import write_with_images
from cryoem.io.mrc import read_mrc_header
from cryoem.io.pixels import check_finite, check_varied
from cryoem.io.shards import (
    CHECKSUMS,
    FORMAT,
    INDEX,
    PARTICLES,
    SCHEMA_VERSION,
    Shard,
    ShardIndex,
    checksums_of,
    read_index,
)
from cryoem.io.source import ParticleSource
from cryoem.io.stack_reader import StackReader
from cryoem.io.table import ParticleTable
from cryoem.io.volume import write_stack

SHARD_BYTES = 256 << 20
CHUNK_BYTES = 8 << 20
_UNFINISHED = "unfinished.json"
_COARSEST = 0.01  # rms rounding by standard deviation of an image
Precision = Literal["float16", "float32"]


@dataclass(frozen=True)
class _Job:
    """All that a worker needs to write shard number ``k``."""

    source: ParticleSource
    folder: Path
    box_size: int
    pixel_size_angstrom: float
    dtype: Precision
    rows: tuple[Int64[Tensor, "_"], ...]  # of each shard

    def path(self, k: int) -> Path:
        return self.folder / f"images_{k + 1:05d}.mrcs"


_job: _Job  # of a worker process


def write_shards(
    source: ParticleSource,
    folder: Path,
    *,
    box_size: int,
    dtype: Precision,
    workers: int,
    progress: Callable[[int], None],
) -> ShardIndex:
    """Crop every particle and write it once; shards that are there already stay.

    Parameters
    ----------
    source
        The particles. Their order is that of ``particles.star``.
    folder
        A new folder, or one in which the same work was begun.
    box_size
        Of the crop, even.
    dtype
        Precision of the shards.
    workers
        Processes.
    progress
        Called with the number of images in each shard that is finished.

    Raises
    ------
    InputError
        If an image is unusable or too coarse in float16, or the folder holds something else.
    """
    table = source.table
    made_from = _identity(source, box_size, dtype)
    if not _begin(folder, made_from):
        progress(len(table))
        return read_index(folder)
    pixel_size = source.geometry.pixel_size_angstrom * source.geometry.box_size / box_size
    per_shard = max(1, SHARD_BYTES // (box_size**2 * np.dtype(dtype).itemsize))
    rows = source.disk_order(torch.arange(len(table))).split(per_shard)
    job = _Job(source, folder, box_size, pixel_size, dtype, rows)
    checksums = _write_all(job, workers, progress)
    with atomic_path(folder / CHECKSUMS) as temporary:
        temporary.write_bytes(checksums.astype("<u4").tobytes())
    _write_rows(job)
    shards = [
        Shard(job.path(k).name, len(part), job.path(k).stat().st_size)
        for k, part in enumerate(rows)
    ]
    _write_json(
        folder / INDEX,
        {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "n_particles": len(table),
            "made_from": made_from,
            "shards": [asdict(shard) for shard in shards],
        },
    )
    (folder / _UNFINISHED).unlink()
    return read_index(folder)


def _identity(source: ParticleSource, box_size: int, dtype: Precision) -> dict[str, Any]:
    """What the shards are a function of."""
    table = source.table
    checksum = zlib.crc32("\n".join(map(str, table.stacks)).encode(errors="surrogateescape"))
    for column in (table.stack, table.frame, table.row, table.pixel_size_angstrom):
        checksum = zlib.crc32(column.tobytes(), checksum)
    return {
        "particles": str(table.path.absolute()),
        "n_rows": table.n_rows,
        "rows_crc32": checksum,
        "source_box_size": source.geometry.box_size,
        "box_size": box_size,
        "dtype": dtype,
        "shard_bytes": SHARD_BYTES,
    }


def _begin(folder: Path, made_from: dict[str, Any]) -> bool:
    """Whether there is work to do; claims the folder for it."""
    if (folder / INDEX).exists():
        known = read_index(folder).made_from
    elif (folder / _UNFINISHED).exists():
        known = json.loads((folder / _UNFINISHED).read_text())
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty and holds no shards; choose a new folder")
    else:
        _write_json(folder / _UNFINISHED, made_from)
        return True
    for key, value in made_from.items():
        if known.get(key) != value:
            raise InputError(
                f"{folder}: holds shards with {key}={known.get(key)}, not {value}; "
                "choose a new folder or remove it"
            )
    for left_over in folder.glob(".*"):  # of what was killed
        left_over.unlink()
    return not (folder / INDEX).exists()


def _write_all(job: _Job, workers: int, progress: Callable[[int], None]) -> np.ndarray:
    checksums = np.empty(len(job.source.table), dtype=np.uint32)
    with ProcessPoolExecutor(workers, initializer=_take, initargs=(job,)) as pool:
        pending = {pool.submit(_write_shard, k): k for k in range(len(job.rows))}
        try:
            for done in as_completed(pending):
                rows = job.rows[pending[done]]
                checksums[rows.numpy()] = done.result()
                progress(len(rows))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return checksums


def _take(job: _Job) -> None:
    global _job
    _job = job
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent waits for shards that are begun


def _write_shard(k: int) -> np.ndarray:
    """Write a shard unless it is there; return the checksum of each image."""
    path, rows = _job.path(k), _job.rows[k]
    if path.exists():
        return np.concatenate(list(_sums_of(path)))
    sums: list[np.ndarray] = []
    write_stack(path, _crops(_job, rows, sums), _job.pixel_size_angstrom, _job.dtype)
    return np.concatenate(sums)


def _crops(job: _Job, rows: Int64[Tensor, "_"], sums: list[np.ndarray]) -> Iterator[np.ndarray]:
    source = job.source
    chunk = max(1, CHUNK_BYTES // (4 * source.geometry.box_size**2))
    for index in rows.split(chunk):
        images = source.read(index)
        check_finite(images, index, source.table)
        check_varied(images, index, source.table)
        images = fourier_crop(images, job.box_size)
        stored = images.to(getattr(torch, job.dtype))
        _check_rounding(images, stored, index, source.table)
        sums.append(checksums_of(stored.numpy(), np.arange(len(stored))))
        yield stored.numpy()


def _check_rounding(
    images: Float[Tensor, "n side side"],
    stored: Float[Tensor, "n side side"],
    index: Int64[Tensor, " n"],
    table: ParticleTable,
) -> None:
    rounding = (stored.float() - images).flatten(1).square().mean(dim=1).sqrt()
    coarse = ~(rounding <= _COARSEST * images.flatten(1).std(dim=1))  # also NaN, of infinities
    if coarse.any():
        row = int(table.row[index[coarse][0]])
        raise InputError(
            f"{table.path}: row {row} (from 0): float16 is too coarse for this image, or its "
            "values are too large; write the shards with --dtype float32"
        )


def _sums_of(path: Path) -> Iterator[np.ndarray]:
    header = read_mrc_header(path)
    reader = StackReader([header])
    chunk = max(1, CHUNK_BYTES // header.image_bytes)
    for frames in np.array_split(np.arange(header.n_images), -(-header.n_images // chunk)):
        images = np.empty((len(frames), header.height, header.width), header.dtype)
        places = np.arange(len(frames))
        reader.read_into(images, places, np.zeros_like(frames), frames)
        yield checksums_of(images, places)


def _write_rows(job: _Job) -> None:
    """Write particles.star: where each row's crop is, with sampling and shifts that hold for it."""
    source = job.source
    names = np.empty(len(source.table), dtype=object)
    for k, rows in enumerate(job.rows):
        name = job.path(k).name
        names[rows.numpy()] = [f"{frame:06d}@{name}" for frame in range(1, len(rows) + 1)]
    binning = source.geometry.box_size / job.box_size
    pose = source.table.pose
    table = replace(
        source.table,
        box_size=job.box_size,
        pixel_size_angstrom=source.table.pixel_size_angstrom * binning,
        pose=None if pose is None else Pose(pose.rotation, pose.shift / binning),
    )
    write_with_images(table, job.folder / PARTICLES, names.tolist())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
