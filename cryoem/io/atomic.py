"""Files appear under their name complete or not at all, and a full disk is said by name."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryoem.errors import InputError

_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, None}  # None: numpy's short writes
_PLACE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn a write that fails into an error that names the file and the way out.

    Raises
    ------
    InputError
        If the disk is full, or the place is one where this file cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _SPACE | _PLACE:
            raise
        way_out = "free some space or " if error.errno in _SPACE else ""
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); {way_out}choose another folder"
        ) from error


def reserve(path: str | Path, size: int) -> None:
    """Make a file of ``size`` bytes with its room on the disk, before it is mapped into memory.

    A page of a mapped file that finds the disk full kills the process.
    """
    with open(path, "ab") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes that name on success, and goes on failure.

    The folder is made if it is missing. The temporary name keeps the suffixes of ``path``, because
    writers such as ``numpy.savez`` and matplotlib choose a format by them.

    Parameters
    ----------
    path
        Where the finished file belongs. An older file there is replaced at the very end.

    Yields
    ------
    Path
        An empty file in the same folder, to be written by the caller.

    Raises
    ------
    InputError
        If the disk is full, or the place is one where this file cannot be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix="".join(path.suffixes[-2:]), dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only the owner can read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
