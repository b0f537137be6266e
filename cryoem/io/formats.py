"""Which reader reads which particle file."""

from pathlib import Path

from cryoem.errors import InputError
from cryoem.io.cryosparc import read_cryosparc
from cryoem.io.relion import read_relion
from cryoem.io.rows import ParticleRows
from cryoem.io.shards import read_index, shard_folder
from cryoem.io.stack_lists import read_stack, read_stack_list


def read_rows(
    path: Path, *, root: Path | None = None, passthrough: Path | None = None
) -> ParticleRows:
    """Read a particle file by its suffix: ``.star``, ``.cs``, ``.mrcs``, ``.mrc`` or ``.txt``.

    A folder is one of shards, see :mod:`cryoem.io.shards`; it holds a ``.star`` file.

    Raises
    ------
    InputError
        If the suffix is another, or the file is bad.
    """
    folder = shard_folder(path)
    if folder is not None:
        path = read_index(folder).particles
    suffix = path.suffix.lower()
    if passthrough is not None and suffix != ".cs":
        raise InputError(
            f"data.passthrough={passthrough}: only a .cs file has one; {path.name} does not"
        )
    match suffix:
        case ".star":
            return read_relion(path)
        case ".cs":
            return read_cryosparc(path, passthrough)
        case ".mrcs" | ".mrc":
            return read_stack(path)
        case ".txt":
            return read_stack_list(path, root)
    raise InputError(f"{path}: not a particle file; give .star, .cs, .mrcs, .mrc or .txt")
