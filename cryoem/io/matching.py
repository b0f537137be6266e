"""Which row of one particle file is the same particle as a row of another."""

import numpy as np

from cryoem.io.cryosparc import find_unique
from cryoem.io.rows import ParticleRows


def match_rows(wanted: ParticleRows, known: ParticleRows) -> np.ndarray:
    """For each particle of ``wanted`` its row in ``known``; -1 if missing, -2 if repeated there.

    By cryoSPARC's uid if both files have it, else by stack and image number; if no stack is spelled
    alike, by the bare names of the stacks.
    """
    if wanted.uid is not None and known.uid is not None:
        return find_unique(wanted.uid, known.uid)
    by_name = not set(wanted.image_paths) & set(known.image_paths)
    return find_unique(_keys(wanted, known, by_name), _keys(known, known, by_name))


def _keys(rows: ParticleRows, known: ParticleRows, by_name: bool) -> np.ndarray:
    """Number each particle by its stack's place in ``known`` and its image number."""
    places: dict[str, int] = {}
    for path in known.image_paths:
        places.setdefault(_spelling(path, by_name), len(places))
    stack = np.array([places.get(_spelling(p, by_name), -1) for p in rows.image_paths], np.int64)
    # Image numbers fit in 32 bits: an MRC header has no more.
    return (stack[rows.stack] << 32) + rows.frame


def _spelling(path: str, by_name: bool) -> str:
    return path.rpartition("/")[2] if by_name else path
