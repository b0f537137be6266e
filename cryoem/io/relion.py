"""RELION particle files, versions 3.0 to 5, and what Warp and others write in their style."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryoem.errors import InputError
from cryoem.io.rows import (
    CTF_FIELDS,
    ParticleRows,
    check_box_size,
    check_ctf,
    check_finite,
    check_pixel_size,
)
from cryoem.io.star import StarBlock, read_star
from cryoem.rotations import from_relion

ANGLES = ("_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi")
ORIGINS_ANGSTROM = ("_rlnOriginXAngst", "_rlnOriginYAngst")
ORIGINS_PIXEL = ("_rlnOriginX", "_rlnOriginY")
CTF_LABELS = dict(
    zip(
        CTF_FIELDS,
        (
            "_rlnDefocusU",
            "_rlnDefocusV",
            "_rlnDefocusAngle",
            "_rlnVoltage",
            "_rlnSphericalAberration",
            "_rlnAmplitudeContrast",
            "_rlnPhaseShift",
            "_rlnCtfBfactor",
            "_rlnCtfScalefactor",
        ),
        strict=True,
    )
)
_DEFAULTS = {
    "_rlnAmplitudeContrast": 0.1,
    "_rlnPhaseShift": 0.0,
    "_rlnCtfBfactor": 0.0,
    "_rlnCtfScalefactor": 1.0,
}
_ABERRATIONS = ("_rlnBeamTiltX", "_rlnBeamTiltY", "_rlnOddZernike", "_rlnEvenZernike")
_MAGNIFICATION = {
    "_rlnMagMat00": 1.0, "_rlnMagMat01": 0.0, "_rlnMagMat10": 0.0, "_rlnMagMat11": 1.0,
}  # fmt: skip
_UNSUPPORTED = {
    "_rlnCtfDataAreCtfPremultiplied": (
        0, "CTF-premultiplied images are not supported; extract them without premultiplication"
    ),
    "_rlnCtfDataArePhaseFlipped": (
        0, "phase-flipped images are not supported; extract them without flipping"
    ),
    "_rlnImageDimensionality": (2, "3-D subtomograms are not supported; extract 2-D images"),
    "_rlnTomoSubTomosAre2DStacks": (
        0, "tilt series as one stack per particle are not supported; list every tilt image in a row"
    ),
}  # fmt: skip


OPTICS_LABELS = (
    "_rlnOpticsGroup",
    "_rlnImagePixelSize",
    "_rlnPixelSize",
    "_rlnDetectorPixelSize",
    "_rlnMagnification",
    "_rlnImageSize",
    "_rlnImageDimensionality",
    "_rlnCtfDataAreCtfPremultiplied",
    "_rlnCtfDataArePhaseFlipped",
)
_NUMBERS = (
    *ANGLES, *ORIGINS_ANGSTROM, *ORIGINS_PIXEL, *CTF_LABELS.values(), *OPTICS_LABELS,
    "_rlnRandomSubset",
)  # fmt: skip
_TEXT = ("_rlnImageName", "_rlnMicrographName")


@dataclass
class _Columns:
    """Per-particle columns, whether they stand in the particle block or in the optics block."""

    particles: StarBlock
    optics: StarBlock | None
    values: dict[str, np.ndarray]
    group: np.ndarray | None  # row of the optics block, for each particle
    notes: list[str] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.particles.path

    def __contains__(self, label: str) -> bool:
        return label in self.values

    def __getitem__(self, label: str) -> np.ndarray:
        return self.values[label]

    def note_origin(self, quantity: str, *labels: str) -> None:
        self.origin[quantity] = f"{self.path.name}:{','.join(labels)}"


def particle_block(blocks: list[StarBlock]) -> StarBlock:
    """Return the block that lists particle images.

    Raises
    ------
    InputError
        If no block has a column ``_rlnImageName``.
    """
    having = [block for block in blocks if "_rlnImageName" in block]
    if not having:
        names = ", ".join(f"data_{block.name}" for block in blocks)
        raise InputError(
            f"{blocks[0].path}: no column _rlnImageName in any block ({names}); "
            "give a particle file, such as run_data.star"
        )
    return next((block for block in having if block.name == "particles"), having[0])


def optics_block(blocks: list[StarBlock]) -> StarBlock | None:
    """Return the optics table of RELION 3.1 and later, wherever it stands in the file."""
    return next((block for block in blocks if block.name == "optics"), None)


def read_relion(path: Path) -> ParticleRows:
    """Read the particles of a STAR file.

    Raises
    ------
    InputError
        If columns are missing or senseless, an optics group does not exist or differs in box size,
        or the images are of a kind that is not supported (3-D, CTF-premultiplied).
    """
    blocks = read_star(path)
    _refuse_unsupported(path, blocks)
    columns = _columns(blocks)
    _note_aberrations(columns)
    image_paths, stack, frame = _images(columns)
    columns.note_origin("images", "_rlnImageName")
    return ParticleRows(
        path=path,
        image_paths=image_paths,
        stack=stack,
        frame=frame,
        rotation=_rotation(columns),
        shift=_shift(columns),
        shift_unit="angstrom" if ORIGINS_ANGSTROM[0] in columns else "pixel",
        ctf=_ctf(columns),
        pixel_size_angstrom=_pixel_size(columns),
        box_size=_box_size(columns),
        half=_half(columns),
        micrograph=_micrograph(columns),
        origin=columns.origin,
        notes=tuple(columns.notes),
    )


def _columns(blocks: list[StarBlock]) -> _Columns:
    """Read everything that we understand. RELION takes from optics what is there; so do we."""
    particles, optics = particle_block(blocks), optics_block(blocks)
    values = _read_known(particles)
    if optics is None:
        return _Columns(particles, None, values, None)
    notes: list[str] = []
    table = _read_known(optics)
    group = _join_optics(particles, values, table, optics.n_rows, notes)
    values |= {k: column[group] for k, column in table.items() if k != "_rlnOpticsGroup"}
    return _Columns(particles, optics, values, group, notes)


def _read_known(block: StarBlock) -> dict[str, np.ndarray]:
    return block.read(
        numbers=[label for label in _NUMBERS if label in block],
        text=[label for label in _TEXT if label in block],
    )


def _join_optics(
    particles: StarBlock,
    values: dict[str, np.ndarray],
    optics: dict[str, np.ndarray],
    n_groups: int,
    notes: list[str],
) -> np.ndarray:
    """Row of the optics table for each particle."""
    if "_rlnOpticsGroup" not in values or "_rlnOpticsGroup" not in optics:
        if n_groups > 1:
            raise InputError(
                f"{particles.path}: {n_groups} optics groups but no column _rlnOpticsGroup to "
                "join them by; add it"
            )
        notes.append("no column _rlnOpticsGroup: the one optics group is taken for all particles")
        return np.zeros(particles.n_rows, dtype=np.int64)
    known, wanted = optics["_rlnOpticsGroup"], values["_rlnOpticsGroup"]
    order = np.argsort(known, kind="stable")
    if (np.diff(known[order]) == 0).any():
        raise InputError(f"{particles.path}: block data_optics lists an _rlnOpticsGroup twice")
    place = np.searchsorted(known[order], wanted).clip(max=n_groups - 1)
    missing = known[order][place] != wanted
    if missing.any():
        row = int(np.argmax(missing))
        raise InputError(
            f"{particles.path}: line {particles.line_of(row)}, _rlnOpticsGroup {wanted[row]:g} is "
            f"not in block data_optics ({', '.join(f'{g:g}' for g in known)}); add it there"
        )
    return order[place]


def _refuse_unsupported(path: Path, blocks: list[StarBlock]) -> None:
    for block in (particle_block(blocks), *blocks):
        for label, (usual, reason) in _UNSUPPORTED.items():
            if label in block and (values := block.numbers(label) != usual).any():
                raise InputError(
                    f"{path}: {label} is not {usual} in {values.sum()} of {block.n_rows} rows of "
                    f"block data_{block.name}: {reason}"
                )


def _note_aberrations(columns: _Columns) -> None:
    """Say which columns we do not apply though they say something, and for how many particles."""
    affected = np.zeros(columns.particles.n_rows, dtype=bool)
    labels = []
    for label in (*_ABERRATIONS, *_MAGNIFICATION):
        said = np.zeros_like(affected)
        if label in columns.particles:
            said = _says(label, columns.particles)
        if columns.optics is not None and label in columns.optics:
            said = _says(label, columns.optics)[columns.group]
        if said.any():
            labels.append(label)
            affected |= said
    if labels:
        columns.notes.append(
            f"aberrations are not applied: {', '.join(labels)}, set for {affected.sum()} of "
            f"{len(affected)} particles"
        )


def _says(label: str, block: StarBlock) -> np.ndarray:
    """Where a number, or a list of them in brackets, is other than that of perfect optics."""
    codes, texts = pd.factorize(block.text(label))
    return np.array([_is_imperfect(label, text) for text in texts])[codes]


def _is_imperfect(label: str, text: str) -> bool:
    try:
        values = [float(word) for word in text.strip("[]").split(",") if word.strip()]
    except ValueError:
        return True
    return any(value != _MAGNIFICATION.get(label, 0.0) for value in values)


def _images(columns: _Columns) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Split ``000001@path``; a bare path is the first image of its file."""
    names = columns["_rlnImageName"]
    numbers: dict[str, int] = {}  # of the stacks, in the order in which they are met
    stack, frame = np.empty(len(names), dtype=np.int32), np.empty(len(names), dtype=np.int64)
    bare = 0
    for row, name in enumerate(names):  # one by one: pieces of all names would outweigh the rest
        number, at, path = name.partition("@")
        if not at:
            number, path, bare = "1", name, bare + 1
        stack[row] = numbers.setdefault(path, len(numbers))
        frame[row] = _image_number(number) - 1
    if bare:
        columns.notes.append(
            f"{bare} of {len(names)} image names are without a number (NUMBER@STACK): "
            "the first image of the file is taken"
        )
    bad = (frame < 0) | (stack == numbers.get("", -1))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{columns.path}: line {columns.particles.line_of(row)}, _rlnImageName "
            f"'{names[row]}' is not NUMBER@STACK with numbers from 1"
        )
    return tuple(numbers), stack, frame


def _image_number(text: str) -> int:
    """Number of an image from 1; 0 for what is not one. MRC headers count in 32 bits."""
    return int(text) if text.isdecimal() and len(text) < 12 else 0


def _rotation(columns: _Columns) -> np.ndarray | None:
    if not any(label in columns for label in ANGLES[:2]):
        return None  # an in-plane angle alone is a 2-D alignment
    missing = [label for label in ANGLES if label not in columns]
    if missing:
        raise InputError(
            f"{columns.path}: missing column {', '.join(missing)}; the other angles are there"
        )
    angles = [check_finite(columns.path, label, columns[label]) for label in ANGLES]
    columns.note_origin("rotation", *ANGLES)
    return from_relion(*(torch.from_numpy(angle.copy()) for angle in angles)).numpy()


def _shift(columns: _Columns) -> np.ndarray | None:
    for labels in (ORIGINS_ANGSTROM, ORIGINS_PIXEL):
        present = [label for label in labels if label in columns]
        if len(present) == 1:
            raise InputError(f"{columns.path}: {present[0]} without its fellow; both are needed")
        if present:
            columns.note_origin("shift", *labels)
            return np.stack(
                [check_finite(columns.path, label, columns[label]) for label in labels], axis=1
            )
    return None


def _ctf(columns: _Columns) -> dict[str, np.ndarray] | None:
    if not any(label in columns for label in ("_rlnDefocusU", "_rlnDefocusV")):
        return None
    missing = [
        label for label in CTF_LABELS.values() if label not in columns and label not in _DEFAULTS
    ]
    if missing:
        raise InputError(
            f"{columns.path}: missing column {', '.join(missing)}, needed for the CTF; "
            "add it (or remove _rlnDefocusU and _rlnDefocusV to go without a CTF)"
        )
    present = [label for label in CTF_LABELS.values() if label in columns]
    if "_rlnAmplitudeContrast" not in columns:
        columns.notes.append("no column _rlnAmplitudeContrast: 0.1 is assumed")
    columns.note_origin("ctf", *present)
    n = columns.particles.n_rows
    ctf = {
        field: columns[label] if label in columns else np.full(n, _DEFAULTS[label])
        for field, label in CTF_LABELS.items()
    }
    return check_ctf(columns.path, _without_dose(ctf, columns.notes))


def _without_dose(ctf: dict[str, np.ndarray], notes: list[str]) -> dict[str, np.ndarray]:
    """Warp and M write -4 times the dose as a B-factor; it is not an envelope."""
    b_factor = ctf["b_factor_angstrom2"]
    if (b_factor < 0).any():
        notes.append("negative _rlnCtfBfactor (a dose, by Warp or M) is not used as an envelope")
    return ctf | {"b_factor_angstrom2": np.where(b_factor < 0, 0.0, b_factor)}


def _pixel_size(columns: _Columns) -> np.ndarray | None:
    for label in ("_rlnImagePixelSize", "_rlnPixelSize"):
        if label in columns:
            columns.note_origin("pixel_size", label)
            return check_pixel_size(columns.path, label, columns[label])
    labels = ("_rlnDetectorPixelSize", "_rlnMagnification")
    if all(label in columns for label in labels):
        columns.note_origin("pixel_size", *labels)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = 1e4 * columns[labels[0]] / columns[labels[1]]  # micrometres to Angstrom
        return check_pixel_size(columns.path, "/".join(labels), size)
    return None


def _box_size(columns: _Columns) -> int | None:
    if "_rlnImageSize" not in columns:
        return None
    sizes, first = np.unique(columns["_rlnImageSize"], return_index=True)
    if len(sizes) > 1:
        one, other = (_group(columns, row) for row in first[:2].tolist())
        raise InputError(
            f"{columns.path}: optics groups differ in box size, {one} has {sizes[0]:g} and "
            f"{other} {sizes[1]:g} pixels; re-extract at one size"
        )
    return check_box_size(columns.path, "_rlnImageSize", float(sizes[0]))


def _group(columns: _Columns, row: int) -> str:
    if columns.optics is None or columns.group is None:
        return f"row {row}"
    label = "_rlnOpticsGroupName"
    label = label if label in columns.optics else columns.optics.labels[0]
    return str(columns.optics.text(label)[columns.group[row]])


def _half(columns: _Columns) -> np.ndarray | None:
    if "_rlnRandomSubset" not in columns:
        return None
    subset = columns["_rlnRandomSubset"]
    if not np.isin(subset, (1, 2)).all():
        columns.notes.append("_rlnRandomSubset is not 1 or 2 in every row: it is ignored")
        return None
    columns.note_origin("half", "_rlnRandomSubset")
    return subset.astype(np.int8) - np.int8(1)


def _micrograph(columns: _Columns) -> np.ndarray | None:
    if "_rlnMicrographName" not in columns:
        return None
    columns.note_origin("micrograph", "_rlnMicrographName")
    return columns["_rlnMicrographName"]
