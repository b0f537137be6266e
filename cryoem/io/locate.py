"""Where on this machine a stack lies that a particle file names."""

import os
from pathlib import Path

from cryoem.errors import InputError
from cryoem.io.rows import ParticleRows


def locate_stacks(rows: ParticleRows, root: Path | None) -> list[Path | None]:
    """Find every stack; None for one that is nowhere. See :func:`candidates` for the order."""
    folder = rows.path.absolute().parent
    return [find_file(written, folder, root) for written in rows.image_paths]


def find_file(written: str, folder: Path, root: Path | None) -> Path | None:
    """Return the first of the :func:`candidates` that exists."""
    # os.path, unlike pathlib, says no to a name that is too long or malformed.
    return next((p for p in candidates(written, folder, root) if os.path.isfile(p)), None)


def candidates(written: str, folder: Path, root: Path | None) -> list[Path]:
    """List where a written path may lie, most likely first.

    With ``root``, below it, in full or by name alone; a relative path that leads out of it is not
    followed. Without, beside the particle file, then in each folder above (a RELION path starts at
    the project, the file lies in a job), then by name alone beside the particle file.
    """
    path = Path(written)
    bases = [root] if root is not None else [folder, *folder.parents]
    if path.is_absolute():
        listed = [path]
    elif root is not None and leads_out(written):
        listed = []
    else:
        listed = [base / path for base in bases]
    return [*listed, bases[0] / path.name]


def leads_out(written: str) -> bool:
    """Whether a relative path leaves the folder it starts from; links count as folders."""
    return os.path.normpath(written).split(os.sep)[0] == os.pardir


def require_stacks(rows: ParticleRows, found: list[Path | None], root: Path | None) -> list[Path]:
    """Return the paths, all of them.

    Raises
    ------
    InputError
        If a stack is nowhere; the first particle in it and the folders tried are named.
    """
    present = [path for path in found if path is not None]
    if len(present) == len(found):
        return present
    missing = found.index(None)
    written = rows.image_paths[missing]
    row = int((rows.stack == missing).argmax())
    folder = rows.path.absolute().parent
    looked = f"below {root}" if root is not None else f"beside the file in {folder} and above it"
    if root is not None and leads_out(rows.image_paths[missing]):
        looked += ", which the path leaves"
    raise InputError(
        f"{rows.path}: row {row} (from 0): stack '{written}' is not there ({found.count(None)} of "
        f"{len(found)} stacks are missing)\n"
        f"looked {looked}; set data.root to the folder that the path starts from"
    )
