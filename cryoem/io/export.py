"""Particles out: the rows of the input with the poses and latents of a run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cryoem.batch import Pose
from cryoem.io.overrides import CTF_GIVEN, POSES_GIVEN
from cryoem.io.relion import (
    ANGLES,
    CTF_LABELS,
    OPTICS_LABELS,
    ORIGINS_ANGSTROM,
    ORIGINS_PIXEL,
    particle_block,
    read_relion,
)
from cryoem.io.star import StarBlock, read_star
from cryoem.io.star_words import quoted
from cryoem.io.star_writer import StarTable, write_star
from cryoem.io.table import ParticleTable
from cryoem.rotations import to_relion

Columns = dict[str, list[bytes]]
_OPTICS_FIELDS = ("voltage_kilovolts", "spherical_aberration_mm", "amplitude_contrast")


def write_particles_star(
    source_table: ParticleTable,
    path: str | Path,
    pose: Pose | None,
    latents: np.ndarray | None = None,
    margin: np.ndarray | None = None,
) -> None:
    """Write the rows of the table, in their order, as a STAR file for RELION and for us.

    A ``.star`` input keeps its blocks, columns and image names to the letter; only angles, origins
    and latents are set. Other inputs, and a ``.star`` whose CTF was overridden, get an optics table
    as of RELION 3.1; images of other inputs are named by their absolute paths.

    Parameters
    ----------
    source_table
        The particles.
    path
        The file to write.
    pose
        Poses of the run, one per row of the table; None keeps the poses of the input.
    latents
        Shape (n, latent): columns ``_cryoemLatent1`` and so on.
    margin
        By how many nats each pose is better than the next distinct one: ``_cryoemPoseMargin``.

    Raises
    ------
    ValueError
        If poses, latents or margins are not one per row of the table.
    """
    table = source_table
    for name, values in (("poses", pose), ("latents", latents), ("margins", margin)):
        if values is not None and len(values) != len(table):
            raise ValueError(f"{len(values)} {name} for {len(table)} rows of the table")
    new = _latents(latents)
    if margin is not None:
        new["_cryoemPoseMargin"] = _numbers(margin)
    if not _is_star(table) or table.origin.get("ctf", "").endswith(CTF_GIVEN):
        write_star(path, _fresh(table, pose or table.pose, new))
        return
    if pose is None and table.origin.get("rotation", "").endswith(POSES_GIVEN):
        pose = table.pose
    write_star(path, _original(table, pose, new))


def write_with_images(table: ParticleTable, path: str | Path, names: list[str]) -> None:
    """Write the rows of a table with other images than those of its file.

    Every column of a ``.star`` input stays, but optics, CTF, angles and origins are those of the
    table, which hold for the new images. The names of the old ones and the rows from which they
    come are kept as ``_rlnImageOriginalName`` and ``_cryoemSourceRow``.
    """
    if _is_star(table):
        written = particle_block(read_star(table.path)).text("_rlnImageName")
        old = _words(written[table.row].tolist())
    else:
        old = _identity(table)["_rlnImageName"]
    new = {
        "_rlnImageName": _words(names),
        "_rlnImageOriginalName": old,
        "_cryoemSourceRow": [b"%d" % row for row in table.row],
    }
    write_star(path, _fresh(table, table.pose, new))


def _is_star(table: ParticleTable) -> bool:
    return table.path.suffix.lower() == ".star"


def _original(table: ParticleTable, pose: Pose | None, new: Columns) -> list[StarTable]:
    """Return the blocks of the input, with the particle block's rows chosen and columns set."""
    blocks = read_star(table.path)
    particles = particle_block(blocks)
    columns = dict(new)
    if pose is not None:
        columns = _angles(pose) | _origins(table, particles, blocks, pose) | columns
    return [
        _changed(block, table.row, columns)
        if block is particles
        else StarTable(block.name, block.labels, block.raw_rows(range(block.n_rows)))
        for block in blocks
    ]


def _origins(
    table: ParticleTable, particles: StarBlock, blocks: list[StarBlock], pose: Pose
) -> Columns:
    """Set the kind of origin that the file has; with neither, what its version of RELION reads."""
    in_pixels = ORIGINS_PIXEL[0] in particles and ORIGINS_ANGSTROM[0] not in particles
    has_optics = any(block.name == "optics" for block in blocks)
    if in_pixels or (ORIGINS_ANGSTROM[0] not in particles and not has_optics):
        return _pair(ORIGINS_PIXEL, _pixels(pose))
    own = read_relion(table.path).pixel_size_angstrom  # not a size given by the user
    size = table.pixel_size_angstrom if own is None else own[table.row]
    return _pair(ORIGINS_ANGSTROM, _pixels(pose) * size[:, None])


def _fresh(table: ParticleTable, pose: Pose | None, new: Columns) -> list[StarTable]:
    """Return an optics table and a particle table made from what we know."""
    optics, group = _optics(table)
    columns = {"_rlnOpticsGroup": [b"%d" % (k + 1) for k in group]} | _ctf(table)
    if pose is not None:
        shift = _pixels(pose) * table.pixel_size_angstrom[:, None]
        columns |= _angles(pose) | _pair(ORIGINS_ANGSTROM, shift)
    columns |= new
    if _is_star(table):
        block = particle_block(read_star(table.path))
        stale = {*CTF_LABELS.values(), *OPTICS_LABELS, *ORIGINS_PIXEL}
        return [optics, _changed(block, table.row, columns, stale - columns.keys())]
    columns = _identity(table) | columns
    return [optics, StarTable("particles", list(columns), zip(*columns.values(), strict=True))]


def _identity(table: ParticleTable) -> Columns:
    stacks = [str(stack.absolute()) for stack in table.stacks]
    names = [
        f"{frame + 1:06d}@{stacks[stack]}"
        for frame, stack in zip(table.frame.tolist(), table.stack.tolist(), strict=True)
    ]
    columns = {"_rlnImageName": _words(names)}
    if table.micrograph is not None:
        columns["_rlnMicrographName"] = _words([str(name) for name in table.micrograph])
    if table.half is not None:
        columns["_rlnRandomSubset"] = [b"%d" % (half + 1) for half in table.half]
    return columns


def _optics(table: ParticleTable) -> tuple[StarTable, np.ndarray]:
    """One group for each distinct optics, and the group of each particle, from 0."""
    columns = {"_rlnImagePixelSize": table.pixel_size_angstrom}
    if table.ctf is not None:
        columns |= {CTF_LABELS[name]: getattr(table.ctf, name).numpy() for name in _OPTICS_FIELDS}
    distinct, group = np.unique(
        np.stack([*columns.values()], axis=1).astype(np.float32), axis=0, return_inverse=True
    )
    labels = ["_rlnOpticsGroup", "_rlnOpticsGroupName", *columns]
    labels += ["_rlnImageSize", "_rlnImageDimensionality"]
    size = str(table.box_size).encode()
    rows = [
        [b"%d" % k, b"opticsGroup%d" % k, *_numbers(values), size, b"2"]
        for k, values in enumerate(distinct, start=1)
    ]
    return StarTable("optics", labels, rows), group.reshape(-1)


def _ctf(table: ParticleTable) -> Columns:
    if table.ctf is None:
        return {}
    return {
        label: _numbers(getattr(table.ctf, name).numpy())
        for name, label in CTF_LABELS.items()
        if name not in _OPTICS_FIELDS
    }


def _pixels(pose: Pose) -> np.ndarray:
    return pose.shift.detach().double().cpu().numpy()


def _angles(pose: Pose) -> Columns:
    angles = to_relion(pose.rotation.detach().double().cpu())
    return {
        label: [b"%.6f" % value for value in angle.tolist()]
        for label, angle in zip(ANGLES, angles, strict=True)
    }


def _pair(labels: tuple[str, str], values: np.ndarray) -> Columns:
    return {
        label: [b"%.6f" % value for value in column.tolist()]
        for label, column in zip(labels, values.T, strict=True)
    }


def _latents(latents: np.ndarray | None) -> Columns:
    if latents is None:
        return {}
    return {f"_cryoemLatent{k}": _numbers(z) for k, z in enumerate(latents.T, start=1)}


def _numbers(values: np.ndarray) -> list[bytes]:
    """Shortest text that reads back as the same float32."""
    return [str(value).encode() for value in np.asarray(values, dtype=np.float32)]


def _words(values: list[str]) -> list[bytes]:
    return [quoted(value).encode(errors="surrogateescape") for value in values]


def _changed(
    block: StarBlock, rows: np.ndarray, columns: Columns, removed: set[str] | None = None
) -> StarTable:
    """Return chosen rows, with columns replaced in place, added at the end, or removed."""
    kept = [label for label in block.labels if label not in (removed or ())]
    labels = kept + [label for label in columns if label not in kept]
    return StarTable(block.name, labels, _changed_rows(block, rows, columns, labels))


def _changed_rows(
    block: StarBlock, rows: np.ndarray, columns: Columns, labels: list[str]
) -> Iterator[list[bytes]]:
    places = [block.labels.index(label) if label in block else -1 for label in labels]
    new = [columns.get(label) for label in labels]
    for k, words in enumerate(block.raw_rows(rows.tolist())):
        yield [
            words[place] if column is None else column[k]
            for place, column in zip(places, new, strict=True)
        ]
