"""All checks of a particle file that need no model."""

import time
from dataclasses import dataclass

import torch

from cryoem.batch import Pose
from cryoem.errors import InputError
from cryoem.io.source import ParticleSource
from cryoem.io.table import ParticleTable
from cryoem.preflight.evidence import Evidence, gather
from cryoem.preflight.images import SCANNED, Scan, scan_images
from cryoem.preflight.pixel_sizes import disagreements
from cryoem.preflight.verdicts import Verdict, judge


@dataclass(frozen=True)
class Findings:
    """What was found out about a particle file, and in how many seconds."""

    table: ParticleTable
    pose: Pose | None
    scan: Scan
    evidence: Evidence
    verdicts: list[Verdict]
    seconds: float


def examine(
    source: ParticleSource,
    pose: Pose | None,
    *,
    sign: str = "auto",
    most_images: int | None = SCANNED,
    device: torch.device | str = "cpu",
) -> Findings:
    """Look at the pixels, and find out by experiment how the files are to be read.

    Parameters
    ----------
    source
        The particles.
    pose
        Theirs, shifts in pixels of the file; None where they are unknown or will not be used.
    sign
        ``data.sign``: what was stated about the sign, ``auto`` if nothing.
    most_images
        Look at the pixels of so many images; None for all.
    device
        Where to compute.

    Raises
    ------
    InputError
        If no image can be used.
    """
    began = time.monotonic()
    scan = scan_images(source, most_images)
    if not len(scan.usable):
        raise InputError(
            f"{source.table.path}: none of {len(scan.looked_at)} images can be used; row "
            f"{scan.bad[0].row} (from 0) has {scan.bad[0].reason}"
        )
    evidence = gather(source, pose, scan.usable, device)
    verdicts = judge(source.table, evidence, scan, sign, disagreements(source.table))
    return Findings(source.table, pose, scan, evidence, verdicts, time.monotonic() - began)
