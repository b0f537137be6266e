"""Which reading of the files the images bear out, and how sure that is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from cryoem.batch import Pose
from cryoem.io.source import ParticleSource
from cryoem.preflight import readings
from cryoem.preflight.readings import STATED
from cryoem.preflight.sample import Sample, read_sample
from cryoem.preflight.trial import Reading, Trial, try_reading

BOX = 64
FEW, MANY = 400, 3000  # images; more only where few cannot tell
CERTAIN = 6.0  # standard errors
VISIBLE = 0.3  # skewness; of noise it is below 0.1
_FEWEST = 50  # images from which a standard error is worth something
_DISCOUNT = 10.0  # on the signal-to-noise ratio, for noise that is not white and poses not perfect


def standard_errors(better: Trial, worse: Trial) -> float:
    """By how many standard errors one reading explains the images better than another.

    From the differences of single images, so that no model of the noise is needed; zero for too
    few images.
    """
    difference = better.explained - worse.explained
    n, mean, spread = len(difference), float(difference.mean()), float(difference.std())
    if n < _FEWEST or mean == 0:
        return 0.0
    return math.copysign(math.inf, mean) if spread == 0 else mean / spread * math.sqrt(n)


@dataclass(frozen=True)
class Evidence:
    """All that was tried on one sample.

    Attributes
    ----------
    sample
        The images.
    trials
        In the order in which they were made; the first is the reading as stated, or the one with
        random poses.
    control
        That with the poses of other images; None where there are no poses.
    posed
        The poses that the images bear out, with the CTF as stated.
    best
        The reading that they bear out, CTF and pixel size included.
    enough
        Whether right poses would have shown, see :func:`would_show`.
    """

    sample: Sample
    trials: list[Trial]
    control: Trial | None
    posed: Trial
    best: Trial
    enough: bool

    @property
    def stated(self) -> Trial:
        """What the files say, as they say it."""
        return self.trials[0]

    @property
    def sign(self) -> int:
        """+1 for light particles, -1 for dark ones."""
        return -1 if self.best.skewness < 0 else 1

    @property
    def sign_is_certain(self) -> bool:
        """Whether both half maps, which share no image, say it clearly."""
        return all(self.sign * value > VISIBLE for value in self.best.half_skewness)

    @property
    def poses_hold(self) -> bool:
        """Whether there are poses that explain the images better than those of others do."""
        return self.control is not None and _is_better(self.posed, self.control)

    @property
    def poses_are_chance(self) -> bool:
        """Whether the stated poses explain no more than those of other images."""
        control = self.control
        return control is not None and (
            standard_errors(self.stated, control) < CERTAIN / 2
            or self.stated.power < self.stated.reading.margin * control.power
        )


def decide_sign(
    source: ParticleSource,
    pose: Pose | None,
    *,
    use_ctf: bool = True,
    device: torch.device | str = "cpu",
) -> Evidence:
    """Reconstruct once, as stated: the density of a molecule in solvent is skewed upwards.

    A molecule fills little of its box, and all its density is on one side of the solvent's; noise
    and the ripples of missing low frequencies are symmetric. With the CTF undone, a negative skew
    means that the molecule is darker than its surroundings. Where there are no poses random ones
    do: the rotational average of a molecule is still a spot in the middle.
    """
    sample = read_sample(source, pose, evenly(torch.arange(len(source.table)), FEW), BOX, device)
    first = try_reading(sample, _first(sample, use_ctf))
    return Evidence(sample, [first], None, first, first, False)


def gather(
    source: ParticleSource,
    pose: Pose | None,
    rows: Int64[Tensor, " row"],
    device: torch.device | str = "cpu",
) -> Evidence:
    """Try the ways to read the files on some of these rows, more of them if few cannot tell.

    Rotations first, then shifts under the best rotations, then CTF and pixel size under the best
    poses: a better reading replaces the one it is compared with only where that is certain.
    """
    evidence = _gather(source, pose, evenly(rows, FEW), device)
    if pose is not None and not evidence.enough and not evidence.poses_hold and len(rows) > FEW:
        evidence = _gather(source, pose, evenly(rows, MANY), device)
    return evidence


def evenly(rows: Int64[Tensor, " row"], n: int) -> Int64[Tensor, " chosen"]:
    """At most ``n`` of the rows, evenly spread."""
    if len(rows) <= n:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, n).round().long()]


def _gather(
    source: ParticleSource,
    pose: Pose | None,
    rows: Int64[Tensor, " row"],
    device: torch.device | str,
) -> Evidence:
    sample = read_sample(source, pose, rows, BOX, device)
    first = try_reading(sample, _first(sample))
    if sample.pose is None:
        return Evidence(sample, [first], None, first, first, False)
    control = try_reading(sample, readings.shuffled(sample.pose))
    trials, posed = [first], first

    def go_on(present: Trial, others: Iterable[Reading]) -> Trial:
        tried = [try_reading(sample, reading) for reading in others]
        trials.extend(tried)
        better = [trial for trial in tried if _is_better(trial, present)]
        return max(better, key=lambda trial: trial.power, default=present)

    posed = go_on(posed, readings.other_rotations(posed.reading))
    posed = go_on(posed, readings.other_shifts(posed.reading))
    best = posed
    if sample.batch.ctf is not None and _is_better(posed, control):
        in_angstrom = "Angst" in source.table.origin.get("shift", "")
        sizes = readings.other_pixel_sizes(posed.reading, in_angstrom)
        best = go_on(posed, [*readings.other_transfers(posed.reading), *sizes])
    return Evidence(sample, trials, control, posed, best, would_show(sample))


def _first(sample: Sample, use_ctf: bool = True) -> Reading:
    if sample.pose is None:
        return readings.unknown(len(sample), sample.half.device)
    return Reading(STATED, sample.pose, use_ctf)


def _is_better(one: Trial, other: Trial) -> bool:
    """Certainly, and by so much that it matters."""
    much = one.power > one.reading.margin * max(other.power, 0)
    return much and standard_errors(one, other) > CERTAIN


def would_show(sample: Sample) -> bool:
    """Whether right poses would explain the images better by twice :data:`CERTAIN`.

    A voxel at Fourier radius ``r`` (pixels) gets ``n / 2r`` samples of a half map, which then holds
    a part ``f = m / (m + 1)`` of the signal, with ``m`` that many times the signal-to-noise ratio
    ``s``. Held-out likelihood grows by ``f s`` per coefficient, and has a spread of about
    ``sqrt(2 f s)``. ``s`` is the power of the images above the noise of their margins, divided by
    :data:`_DISCOUNT`, because noise in the middle of real images is stronger and not white.
    """
    snr = (1 / sample.weight - 1).clamp(min=0) / _DISCOUNT
    per_voxel = len(sample) / 2 * snr / (2 * sample.lattice.radii)
    gain = float((len(sample) * snr * per_voxel / (per_voxel + 1)).sum())
    return len(sample) >= _FEWEST and math.sqrt(gain / 2) > 2 * CERTAIN
