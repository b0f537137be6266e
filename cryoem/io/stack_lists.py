"""Bare stacks, and text files that list them: images without poses or CTF."""

from pathlib import Path

import numpy as np

from cryoem.errors import InputError
from cryoem.io.locate import find_file
from cryoem.io.mrc import MrcHeader, read_mrc_header
from cryoem.io.rows import ParticleRows


def read_stack(path: Path) -> ParticleRows:
    """Take every image of one ``.mrcs`` or ``.mrc`` file.

    Raises
    ------
    InputError
        If the file is not a stack; in particular if its header says that it is a volume.
    """
    header = read_mrc_header(path)
    if header.looks_like_volume:
        raise InputError(
            f"{path}: is a volume of {header.width} x {header.height} x {header.n_images} voxels "
            f"(space group {header.space_group}), not a stack of images; give a particle file, or "
            "name the images in a .star file"
        )
    return _all_images(path, [header])


def read_stack_list(path: Path, root: Path | None) -> ParticleRows:
    """Take every image of the stacks that a ``.txt`` file lists, one per line.

    Raises
    ------
    InputError
        If the list is empty or a stack is missing; the line is named.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    headers = []
    for number, line in enumerate(lines, start=1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        found = find_file(name, path.absolute().parent, root)
        if found is None:
            raise InputError(
                f"{path}: line {number}: stack '{name}' is not there; paths are relative to the "
                "list, or to data.root"
            )
        headers.append(read_mrc_header(found))
    if not headers:
        raise InputError(f"{path}: lists no stack; write one .mrcs path per line")
    return _all_images(path, headers)


def _all_images(path: Path, headers: list[MrcHeader]) -> ParticleRows:
    for header in headers:
        if header.extra_bytes >= header.image_bytes:
            raise InputError(
                f"{header.path}: the header says {header.n_images} images, but "
                f"{header.extra_bytes} bytes follow them, enough for more; correct the header, or "
                "name the images in a .star file"
            )
    counts = [header.n_images for header in headers]
    return ParticleRows(
        path=path,
        image_paths=tuple(str(header.path.absolute()) for header in headers),
        stack=np.repeat(np.arange(len(headers), dtype=np.int32), counts),
        frame=np.concatenate([np.arange(count, dtype=np.int64) for count in counts]),
        origin={"images": path.name},
        notes=("a bare stack has no poses and no CTF",),
    )
