"""Which rows of a particle file a run uses: ``data.select``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cryoem.errors import InputError
from cryoem.io.matching import match_rows
from cryoem.io.pickles import load_pickle
from cryoem.io.rows import ParticleRows

ReadRows = Callable[[Path], ParticleRows]
_ARRAY_HEADER = 1 << 16


def select_rows(select: str | Path, rows: ParticleRows, read_rows: ReadRows) -> np.ndarray:
    """Return the chosen rows in ascending order, as the file has them.

    Parameters
    ----------
    select
        ``first:N``; a ``.npy``, ``.npz`` or ``.pkl`` of row numbers from 0 or of one boolean per
        row; or a ``.star`` or ``.cs`` file that holds some of the particles.
    rows
        The particle file to select from.
    read_rows
        Reads a particle file.

    Raises
    ------
    InputError
        If a row does not exist or is chosen twice, or nothing is chosen.
    """
    chosen = _chosen(str(select), rows, read_rows)
    if len(chosen) == 0:
        raise InputError(f"data.select={select}: chooses no particle")
    outside = (chosen < 0) | (chosen >= len(rows))
    if outside.any():
        raise InputError(
            f"data.select={select}: row {chosen[outside][0]} does not exist, {rows.path} has "
            f"{len(rows)} rows (0 to {len(rows) - 1})"
        )
    ordered = np.sort(chosen)
    twice = np.flatnonzero(np.diff(ordered) == 0)
    if twice.size:
        raise InputError(f"data.select={select}: row {ordered[twice[0]]} is chosen more than once")
    return ordered


def _chosen(select: str, rows: ParticleRows, read_rows: ReadRows) -> np.ndarray:
    if select.startswith("first:"):
        return _first(select, len(rows))
    path = Path(select)
    suffix = path.suffix.lower()
    if suffix in (".star", ".cs"):
        return _same_particles(path, rows, read_rows)
    if suffix in (".npy", ".npz"):
        return _as_rows(path, _load_numpy(path, len(rows)), len(rows))
    if suffix == ".pkl":
        return _as_rows(path, load_pickle(path), len(rows))
    raise InputError(
        f"data.select={select}: not understood; give a .star, .cs, .npy, .npz or .pkl file, or "
        "first:1000"
    )


def _first(select: str, n_rows: int) -> np.ndarray:
    count = select.removeprefix("first:")
    if not (count.isascii() and count.isdecimal()) or int(count) == 0:
        raise InputError(f"data.select={select}: '{count}' is not a positive number of rows")
    return np.arange(min(int(count), n_rows))


def _same_particles(path: Path, rows: ParticleRows, read_rows: ReadRows) -> np.ndarray:
    other = read_rows(path)
    place = match_rows(other, rows)
    for sign, complaint in ((-1, "are not in"), (-2, "are more than once in")):
        if (place == sign).any():
            row = int(np.argmax(place == sign))
            image = f"{other.frame[row] + 1}@{other.image_paths[other.stack[row]]}"
            raise InputError(
                f"data.select={path}: {(place == sign).sum()} of {len(other)} particles "
                f"{complaint} {rows.path}, first {image} in row {row} (from 0)"
            )
    return place


def _load_numpy(path: Path, n_rows: int) -> object:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            names = content.files
            name = "index" if "index" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise InputError(f"{path}: has arrays {', '.join(names)}; name the rows 'index'")
            size = content.zip.getinfo(f"{name}.npy").file_size
            if size > 8 * n_rows + _ARRAY_HEADER:  # packed it may be small
                raise InputError(
                    f"{path}: array '{name}' has {size} bytes, more than numbers for {n_rows} rows "
                    "take; is it a selection?"
                )
            return content[name]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy raises nearly anything on a damaged file
        raise InputError(f"{path}: not a readable array ({error})") from error


def _as_rows(path: Path, content: object, n_rows: int) -> np.ndarray:
    try:
        values = np.asarray(content)
    except ValueError:
        values = np.zeros(0, dtype=object)
    if values.dtype == bool and values.shape == (n_rows,):
        return np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(
            f"{path}: holds {values.dtype} of shape {values.shape}, not row numbers or one "
            f"boolean for each of {n_rows} rows"
        )
    return values.astype(np.int64)
