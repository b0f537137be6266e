"""From which code and which particles a result came."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from cryoem.io.source import ParticleSource

_IMAGES = 16


def code_version() -> dict[str, str]:
    """Version of the package, and commit of the working copy that it runs from, if it is one.

    ``+`` behind the commit: files had been changed since.
    """
    found = {"version": metadata.version("cryoem")}
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        if commit.returncode == 0:
            changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
            found["commit"] = commit.stdout.strip() + "+"[: int(changed.returncode == 1)]
    except OSError:
        pass  # git is not installed
    return found


def data_fingerprint(source: ParticleSource) -> str:
    """Sixteen hexadecimal digits that change with the particles: which, their poses, CTF, pixels.

    Of the pixels, those of 16 images at even strides. Where the files lie plays no part.
    """
    table, digest = source.table, hashlib.sha256()
    for values in (table.row, table.frame, table.stack, table.pixel_size_angstrom):
        digest.update(np.ascontiguousarray(values).tobytes())
    for record in (table.pose, table.ctf):
        for value in vars(record).values() if record is not None else ():
            digest.update(value.contiguous().numpy().tobytes())
    for stack in table.stacks:
        digest.update(stack.name.encode())
    rows = torch.linspace(0, len(table) - 1, min(_IMAGES, len(table))).round().long()
    digest.update(source.read(rows).numpy().tobytes())
    return digest.hexdigest()[:16]
