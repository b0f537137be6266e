"""What the evidence means, a sentence on each question."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryoem.analysis.particle_facts import find_problems
from cryoem.errors import InputError
from cryoem.io.table import ParticleTable
from cryoem.preflight.evidence import CERTAIN, Evidence, standard_errors
from cryoem.preflight.images import Scan
from cryoem.preflight.readings import STATED


class Level(Enum):
    """How much a verdict matters; a contradiction stops a run. The value is its name on a page."""

    GOOD = "good"
    NOTE = "note"
    DOUBT = "doubt"
    CONTRADICTION = "contradiction"

    @property
    def severity(self) -> int:
        """Level of ``logging``."""
        return logging.INFO if self in (Level.GOOD, Level.NOTE) else logging.WARNING


@dataclass(frozen=True)
class Verdict:
    """The answer to a question."""

    topic: str
    level: Level
    text: str


def judge(
    table: ParticleTable, evidence: Evidence, scan: Scan, stated_sign: str, pixel_sizes: list[str]
) -> list[Verdict]:
    """Answer all questions of a preflight.

    ``stated_sign`` is ``data.sign``; ``pixel_sizes`` are the disagreements about the pixel size.
    """
    return [
        judge_sign(evidence, stated_sign),
        judge_poses(evidence),
        judge_transfer(evidence),
        *(Verdict("Pixel size", Level.DOUBT, text) for text in pixel_sizes),
        judge_images(scan, len(table)),
        *(
            Verdict("Table", Level.DOUBT, f"{text}.")
            for text in find_problems(table)
            if not text.startswith(("no poses", "no CTF"))
        ),  # said already
        *(Verdict("Files", Level.NOTE, f"{text}.") for text in table.notes),
    ]


def refuse_contradictions(verdicts: Sequence[Verdict], page: Path) -> None:
    """Stop where the images contradict what was stated.

    Raises
    ------
    InputError
        With the first contradiction, and where the evidence is.
    """
    found = [verdict for verdict in verdicts if verdict.level is Level.CONTRADICTION]
    if found:
        raise InputError(
            f"{found[0].text}\nThe evidence is in {page}; preflight=false runs all the same"
        )


def judge_sign(evidence: Evidence, stated: str) -> Verdict:
    """Whether particles are dark or light, against what was stated."""
    found = "light" if evidence.sign > 0 else "dark"
    other = "dark" if evidence.sign > 0 else "light"
    first, second = evidence.best.half_skewness
    numbers = (
        f"the density is skewed by {evidence.best.skewness:+.2f} "
        f"({first:+.2f} and {second:+.2f} in the halves)"
    )
    if not evidence.sign_is_certain:
        text = f"Particles are rather {found}, but that is not certain: {numbers}."
        return Verdict("Sign", Level.DOUBT, f"{text} Look at the maps, and set data.sign.")
    if stated == other:
        text = (
            f"data.sign={stated}, but the particles are {found}: {numbers}; say data.sign={found}"
        )
        return Verdict("Sign", Level.CONTRADICTION, f"{text}.")
    how = "as stated" if stated == found else "data.sign=auto takes them so"
    return Verdict("Sign", Level.GOOD, f"Particles are {found}, {how}: {numbers}.")


def judge_poses(evidence: Evidence) -> Verdict:
    """Whether the poses are those of these images, in this convention."""
    stated, posed, control = evidence.stated, evidence.posed, evidence.control
    if control is None:
        text = "There are no poses, so their convention, the CTF and the pixel size are not tried."
        return Verdict("Poses", Level.NOTE, text)
    n = len(evidence.sample)
    chance = f"those of other images {_percent(control.power)}"
    if posed.reading.name != STATED and evidence.poses_hold:
        text = (
            f"The poses are in another convention: as stated they explain {_percent(stated.power)} "
            f"of images that were kept out, {chance}, but with {posed.reading.name} "
            f"{_percent(posed.power)}; convert them, or give others with data.poses"
        )
        return Verdict("Poses", Level.CONTRADICTION, f"{text}.")
    if evidence.poses_hold:
        better = (stated.explained > control.explained).float().mean()
        text = (
            f"The poses fit the images: they explain {_percent(stated.power)} of images that were "
            f"kept out, {chance}; {_percent(float(better))} of {n} images are better explained."
        )
        return Verdict("Poses", Level.GOOD, text)
    text = (
        f"they explain {_percent(stated.power)} of images that were kept out, {chance}, and other "
        "conventions no more"
    )
    if evidence.enough and evidence.poses_are_chance:
        text = f"The poses are not those of these images: {text}; are the rows in another order?"
        return Verdict("Poses", Level.CONTRADICTION, text)
    return Verdict("Poses", Level.DOUBT, f"{n} images do not show whether the poses fit: {text}.")


def judge_transfer(evidence: Evidence) -> Verdict:
    """Whether the CTF is that of the images, with the pixel size that it is computed from."""
    if evidence.sample.batch.ctf is None:
        text = "The files have no CTF, so the images do not tell the pixel size."
        return Verdict("CTF", Level.NOTE, text)
    if not evidence.poses_hold:
        text = "Not tried, as it needs poses that fit the images."
        return Verdict("CTF", Level.NOTE, text)
    posed, best = evidence.posed, evidence.best
    gain = f"the map explains {_percent(best.power)} of images that were kept out, not "
    gain += _percent(posed.power)
    factor = best.reading.pixel_factor
    if factor != 1:
        words = "half" if factor < 1 else "twice"
        size = evidence.sample.source_pixel_size_angstrom
        text = (
            f"The CTF fits {words} the stated pixel size, {factor * size:.4g}, not {size:.4g} A: "
            f"{gain}; correct it with data.pixel_size, unless the defocus is off"
        )
        return Verdict("CTF", Level.CONTRADICTION, f"{text}.")
    if best is not posed:
        words = "with phases flipped already" if best.reading.flipped else "without CTF"
        text = f"The CTF is not that of the images: taken {words}, {gain}"
        return Verdict("CTF", Level.CONTRADICTION, f"{text}; extract them again, or see data.ctf.")
    none, flipped, *sizes = (standard_errors(posed, trial) for trial in evidence.trials[-4:])
    size = min(sizes)
    margins = f"{none:.1f} and {size:.1f} standard errors"
    if min(none, size) < -CERTAIN:
        text = "The images are explained slightly better without the CTF, or at another pixel size"
        reason = "as can be where its first zero is out of reach"
        return Verdict("CTF", Level.DOUBT, f"{text}, {reason} ({margins}).")
    if min(none, size) < CERTAIN:
        text = "The CTF makes too little difference in these images to tell whether it fits"
        return Verdict("CTF", Level.NOTE, f"{text} ({margins}).")
    text = "The CTF fits: better than none, and than at half or twice the pixel size"
    unclear = "" if flipped > CERTAIN else ". Whether phases are flipped already does not show"
    return Verdict("CTF", Level.GOOD, f"{text} ({margins}){unclear}.")


def judge_images(scan: Scan, n: int) -> Verdict:
    """Whether images are bad, and how to leave them out."""
    looked = f"{len(scan.looked_at):,} of {n:,} images"
    if not scan.bad:
        return Verdict("Images", Level.GOOD, f"Nothing odd in the pixels of {looked}.")
    text = f"{len(scan.bad):,} are bad or unlike the others, see below; {looked} were looked at."
    return Verdict("Images", Level.DOUBT, text)


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %" if abs(part) < 0.1 else f"{100 * part:.0f} %"
