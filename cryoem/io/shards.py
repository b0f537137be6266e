"""Folders of shards: particles cropped once, in large stacks that lie as they are read.

``particles.star``
    The rows of the input with poses, CTF and optics as they hold for the crop. Images are named by
    the shards; ``_rlnImageOriginalName`` and ``_cryoemSourceRow`` (from 0) say where each is from.
``images_00001.mrcs`` and so on
    The crops, MRC mode 12 (float16) or 2 (float32).
``checksums.bin``
    CRC-32 of the pixels of each row, as they lie in the file: little-endian uint32, no header.
``index.json``
    Version of this layout, what was made from what, names and lengths of the files. It is written
    last: a folder without it is not finished.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoem.errors import InputError

INDEX, PARTICLES, CHECKSUMS = "index.json", "particles.star", "checksums.bin"
FORMAT, SCHEMA_VERSION = "cryoem shards", 1
AGAIN = "make the shards again with cryoem preprocess"


@dataclass(frozen=True)
class Shard:
    """One stack of a folder."""

    file: str
    n_images: int
    n_bytes: int


@dataclass(frozen=True)
class ShardIndex:
    """What ``index.json`` says.

    ``made_from`` is what the shards are a function of: the input, its rows, the crop.
    """

    folder: Path
    n_particles: int
    shards: tuple[Shard, ...]
    made_from: dict[str, Any]

    @property
    def particles(self) -> Path:
        """The particle file."""
        return self.folder / PARTICLES


def shard_folder(path: Path) -> Path | None:
    """Return the folder that a user means by itself or by its index; None for any other file."""
    if path.name == INDEX:
        return path.parent
    return path if path.is_dir() else None


def read_index(folder: Path) -> ShardIndex:
    """Read an index and compare the lengths of all shards with it.

    Raises
    ------
    InputError
        If there is none, it cannot be understood, or a shard is missing or has another length.
    """
    path = folder / INDEX
    if not path.is_file():
        raise InputError(
            f"{folder}: no folder of finished shards, {INDEX} is missing; "
            "give a particle file, or run cryoem preprocess again to finish"
        )
    try:
        content = json.loads(path.read_text())
        if (content["format"], content["schema_version"]) != (FORMAT, SCHEMA_VERSION):
            raise InputError(
                f"{path}: is '{content['format']}' version {content['schema_version']}, and only "
                f"'{FORMAT}' version {SCHEMA_VERSION} is understood; {AGAIN}"
            )
        shards = tuple(
            Shard(Path(shard["file"]).name, int(shard["n_images"]), int(shard["n_bytes"]))
            for shard in content["shards"]
        )
        index = ShardIndex(folder, int(content["n_particles"]), shards, dict(content["made_from"]))
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}: not an index of shards ({reason}); {AGAIN}") from error
    _check_lengths(index)
    return index


def _check_lengths(index: ShardIndex) -> None:
    for shard in index.shards:
        path = index.folder / shard.file
        if not path.is_file():
            raise InputError(f"{path}: the shard is missing; {AGAIN}")
        if path.stat().st_size != shard.n_bytes:
            raise InputError(
                f"{path}: the shard is damaged, it has {path.stat().st_size} bytes and not "
                f"{shard.n_bytes}; {AGAIN}"
            )


def read_checksums(index: ShardIndex) -> np.ndarray:
    """Return the CRC-32 of each row.

    Raises
    ------
    InputError
        If there is not one for each row.
    """
    path = index.folder / CHECKSUMS
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
    if len(raw) != 4 * index.n_particles:
        raise InputError(
            f"{path}: has {len(raw)} bytes, not four for each of {index.n_particles} particles; "
            f"{AGAIN}"
        )
    return np.frombuffer(raw, "<u4")


def checksums_of(images: np.ndarray, place: np.ndarray) -> np.ndarray:
    """CRC-32 of the bytes of the images at these places."""
    return np.array([zlib.crc32(images[k]) for k in place], dtype=np.uint32)
