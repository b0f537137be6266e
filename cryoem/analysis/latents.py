"""Latents from files: those of a run, and those that a user wants to see."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from cryoem.errors import InputError


@dataclass(frozen=True)
class RunLatents:
    """``latents.npz`` of a run: one row per particle, and its row in the input file."""

    path: Path
    z: Float[np.ndarray, "particle latent"]
    index: Int64[np.ndarray, " particle"]

    def rows_of(self, particles: list[int]) -> Int64[np.ndarray, " row"]:
        """Where the given rows of the input file (from 0) stand in ``z``.

        Raises
        ------
        InputError
            If one of them is not in the run; the first such is named.
        """
        where = {int(row): position for position, row in enumerate(self.index)}
        absent = [row for row in particles if row not in where]
        if absent:
            raise InputError(
                f"{self.path}: particle {absent[0]} is not in the run; its {len(self.index)} "
                f"particles are rows {self.index.min()} to {self.index.max()} of the input file"
            )
        return np.array([where[row] for row in particles], dtype=np.int64)


def read_run_latents(run: Path) -> RunLatents:
    """Read ``latents.npz`` of a run folder (or of the run that a ``.ckpt`` file belongs to).

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    folder = run if run.is_dir() else run.parent.parent
    path = folder / "latents.npz"
    if not path.is_file():
        raise InputError(f"{path}: not there; it is written when a heterogeneous run ends")
    arrays = _load(path)
    if set(arrays) < {"z", "index"}:
        raise InputError(f"{path}: not the latents of a run, it has no z and index")
    return RunLatents(path, arrays["z"].astype(np.float32), arrays["index"].astype(np.int64))


def read_latent_file(path: Path, latent_dim: int) -> Float[np.ndarray, "row latent"]:
    """Read latents, one row each, from ``.npy``, ``.npz`` (its ``z`` or only array) or ``.txt``.

    A single row may be flat.

    Raises
    ------
    InputError
        If the file cannot be read, does not have ``latent_dim`` columns, or holds a number that is
        not finite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    arrays = _load(path)
    if "z" not in arrays and len(arrays) != 1:
        raise InputError(f"{path}: has no array 'z' among {sorted(arrays)}; name the latents z")
    z = arrays.get("z", next(iter(arrays.values())))
    if z.ndim == 1:
        z = z[:, None] if latent_dim == 1 else z[None]
    if z.ndim != 2 or z.shape[1] != latent_dim or not len(z):
        raise InputError(
            f"{path}: latents of shape {z.shape}; the run needs {latent_dim} "
            f"column{'s'[: latent_dim > 1]}, one row per volume"
        )
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if bad.size:
        raise InputError(f"{path}: row {bad[0]} (from 0) is not finite")
    return z.astype(np.float32)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".txt":
            return {"z": np.loadtxt(path, ndmin=2)}
        if path.suffix not in (".npy", ".npz"):
            raise InputError(f"{path}: latents are read from .npy, .npz or .txt")
        content = np.load(path, allow_pickle=False)
        arrays = {"z": content} if path.suffix == ".npy" else dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: '{name}' holds {array.dtype}, not real numbers")
    return arrays
