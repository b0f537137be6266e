"""One way to read the files, tried: each half of the images makes a map that predicts the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor
from torch.nn import functional

from cryoem.backproject import Backprojector
from cryoem.batch import ParticleBatch, Pose
from cryoem.ctf import evaluate_ctf
from cryoem.lattice import shift_phases
from cryoem.metrics.fsc import FSCCurve, fsc
from cryoem.metrics.skewness import skewness
from cryoem.poses.volume_cache import VolumeCache
from cryoem.preflight.sample import Sample

_BLOCK = 128


@dataclass(frozen=True)
class Reading:
    """How poses and CTF are taken.

    Attributes
    ----------
    name
        In the words of the page.
    pose
        One for each image of the sample.
    use_ctf
        Whether the CTF is corrected for.
    flipped
        Whether the phases of the CTF are taken as corrected already.
    pixel_factor
        On the stated pixel size, from which the CTF is computed.
    margin
        How many times as much it must explain to be preferred.
    """

    name: str
    pose: Pose
    use_ctf: bool = True
    flipped: bool = False
    pixel_factor: float = 1.0
    margin: float = 1.2


@dataclass(frozen=True)
class Trial:
    """What came of a reading.

    Attributes
    ----------
    reading
        What was tried.
    volume, half_maps
        Density as if the particles were light.
    curve
        FSC of the half maps.
    explained
        Of each image, the part of its power that the map of the *other* half explains; each shell
        counts as its mean power. Negative where the map makes it worse.
    """

    reading: Reading
    volume: Float[Tensor, "side side side"]
    half_maps: Float[Tensor, "2 side side side"]
    curve: FSCCurve
    explained: Float[Tensor, " batch"]

    @property
    def power(self) -> float:
        """Mean explained part."""
        return float(self.explained.mean())

    @property
    def skewness(self) -> float:
        """Of the density; positive for light particles."""
        return skewness(self.volume)

    @property
    def half_skewness(self) -> tuple[float, float]:
        """The same of the half maps, which have no image in common."""
        first, second = (skewness(half) for half in self.half_maps)
        return first, second


@torch.no_grad()
def try_reading(sample: Sample, reading: Reading) -> Trial:
    """Reconstruct the half maps and that of all images; predict images from the other half."""
    lattice = sample.lattice
    device = lattice.freqs.device
    projector = Backprojector(lattice.box_size, sample.pixel_size_angstrom, None, device)
    for rows, batch, pose in _parts(sample, reading):
        projector.add(batch, pose, _transfer(sample, reading, batch), sample.half[rows])
    halves = projector.half_maps()
    explained = torch.empty(len(sample), device=device)
    for half in (0, 1):
        cache = _cache(halves[1 - half])
        for rows, batch, pose in _parts(sample, reading, half):
            observed = batch.fourier * shift_phases(lattice.freqs, pose.shift)
            slices = cache.slices(pose.rotation, lattice.freqs)[:, 0]
            predicted = _transfer(sample, reading, batch) * slices
            explained[rows] = _explained(observed, predicted, sample.weight)
    curve = fsc(halves[0].cpu(), halves[1].cpu())
    return Trial(reading, projector.volume().cpu(), halves.cpu(), curve, explained.cpu())


def _parts(
    sample: Sample, reading: Reading, half: int | None = None
) -> Iterator[tuple[Int64[Tensor, " part"], ParticleBatch, Pose]]:
    every = torch.arange(len(sample), device=sample.half.device)
    for rows in (every if half is None else every[sample.half == half]).split(_BLOCK):
        yield rows, sample.batch[rows], reading.pose[rows]


def _transfer(
    sample: Sample, reading: Reading, batch: ParticleBatch
) -> Float[Tensor, "batch freq"]:
    if batch.ctf is None or not reading.use_ctf:
        return torch.ones(batch.fourier.shape, device=batch.fourier.device)
    pixel_size = batch.pixel_size_angstrom * reading.pixel_factor
    transfer = evaluate_ctf(sample.lattice.freqs, pixel_size, batch.ctf)
    return transfer.abs() if reading.flipped else transfer


def _explained(
    observed: Complex[Tensor, "batch freq"],
    predicted: Complex[Tensor, "batch freq"],
    weight: Float[Tensor, " freq"],
) -> Float[Tensor, " batch"]:
    gain = 2 * (observed * predicted.conj()).real - predicted.abs().square()
    return (gain * weight).mean(-1)


def _cache(volume: Float[Tensor, "side side side"]) -> VolumeCache:
    """Fourier grid of a density, twice as fine, with the smear of its interpolation undone."""
    side = volume.shape[0]
    kernel = torch.sinc((torch.arange(side, device=volume.device) - side // 2) / (2 * side)) ** -2
    density = volume * kernel[:, None, None] * kernel[:, None] * kernel
    padded = functional.pad(density, [side // 2] * 6)
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(padded))) / side
    closed = functional.pad(spectrum[None], [0, 1] * 3, mode="circular")[0]
    return VolumeCache(torch.view_as_real(closed), side, padding=2.0)
