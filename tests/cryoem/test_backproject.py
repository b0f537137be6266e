from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cryoem.backproject import Backprojection, Backprojector, _complete, backproject
from cryoem.batch import CTFParams, ParticleBatch, Pose
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.errors import InputError
from cryoem.io.source import StackSource, open_particles
from cryoem.io.volume import read_volume
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.metrics.fsc import fsc
from cryoem.metrics.mask import ball_mask, soft_mask
from cryoem.preflight import decide_sign
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise
from cryoem.rotations import random_rotations
from cryoem.volume import evaluate_volumes

SIDE, APIX = 32, 3.0


def phantom() -> GaussianPhantom:
    return random_phantom(30, 8.0, 0.9, SIDE, torch.Generator().manual_seed(0))


def phantom_volume() -> Tensor:
    """Density of the same transform, without what lies beyond Nyquist."""
    return evaluate_volumes(phantom(), SIDE, None, torch.device("cpu"))[0]


def views(n: int, pixel_size: float = APIX) -> tuple[ParticleBatch, Pose, Tensor]:
    """Exact slices of the phantom (voxels of ``APIX``), shifted and multiplied by a CTF."""
    generator = torch.Generator().manual_seed(1)
    lattice = FourierLattice(SIDE)
    rotation = random_rotations(n, generator).float()
    shift = 4 * torch.rand(n, 2, generator=generator) - 2
    one = torch.ones(n)
    defocus = 1e4 * (1 + torch.rand(n, generator=generator))
    zero = torch.zeros(n)
    params = CTFParams(defocus, defocus, zero, 300 * one, 2.7 * one, 0.1 * one, zero, zero, one)
    ctf = evaluate_ctf(lattice.freqs, pixel_size * one, params)
    slices = phantom()(lattice.freqs @ (rotation * (APIX / pixel_size)))
    recorded = slices * ctf * shift_phases(lattice.freqs, -shift)  # the pose's shift undoes it
    batch = ParticleBatch(torch.arange(n), recorded, pixel_size * one)
    return batch, Pose(rotation, shift), ctf


def parity(n: int) -> Tensor:
    return torch.arange(n) % 2


def test_exact_slices_give_back_the_density_in_its_own_units() -> None:
    projector = Backprojector(SIDE, APIX)
    projector.add(*views(1500), parity(1500))
    truth = phantom_volume()
    curve = fsc(projector.volume(), truth)
    assert curve.correlation[1:].min() > 0.99
    inside = ball_mask(SIDE) == 1
    volume, truth = projector.volume()[inside], truth[inside]
    # the mean of the box is in no image: compare without it
    volume, truth = volume - volume.mean(), truth - truth.mean()
    assert float((volume * truth).sum() / truth.square().sum()) == pytest.approx(1, abs=0.02)


def test_a_sample_and_its_conjugate_fill_the_half_grid_as_they_fill_the_whole() -> None:
    # brute force: each sample at k and its conjugate at -k, trilinear on the full periodic grid
    projector = Backprojector(8, 1.0)
    n = projector._side
    generator = torch.Generator().manual_seed(2)
    places = (torch.rand(1, 40, 3, generator=generator) - 0.5) * (n - 3)
    places[0, :10, 0] *= 0.05  # many close to the plane kx = 0
    rows = torch.randn(1, 40, 3, generator=generator)
    projector._spread(places, rows, torch.zeros(1, dtype=torch.int64))
    whole = np.zeros((n, n, n, 3))
    for place, row in zip(places[0].numpy(), rows[0].numpy(), strict=True):
        for k, value in ((place, row), (-place, row * [1, -1, 1])):
            low = np.floor(k).astype(int)
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, k - low, 1 - (k - low)))
                x, y, z = (low + corner) % n
                whole[z, y, x] += weight * value
    sums = projector._sums[0].view(n, n, n // 2 + 1, 3)
    numerator = _complete(torch.complex(sums[..., 0], sums[..., 1]))
    half = whole[:, :, : n // 2 + 1]
    np.testing.assert_allclose(numerator.real.numpy(), half[..., 0], atol=1e-5)
    np.testing.assert_allclose(numerator.imag.numpy(), half[..., 1], atol=1e-5)
    np.testing.assert_allclose(_complete(sums[..., 2]).numpy(), half[..., 2], atol=1e-5)


def test_the_order_and_size_of_batches_do_not_matter() -> None:
    batch, pose, ctf = views(60)
    at_once, in_parts = Backprojector(SIDE, APIX), Backprojector(SIDE, APIX)
    at_once.add(batch, pose, ctf, parity(60))
    for rows in torch.randperm(60, generator=torch.Generator().manual_seed(3)).split(7):
        in_parts.add(batch[rows], pose[rows], ctf[rows], parity(60)[rows])
    peak = at_once.volume().abs().max()
    assert (at_once.volume() - in_parts.volume()).abs().max() < 1e-4 * peak


def test_the_union_is_the_sum_of_the_halves_and_each_half_sees_its_images_only() -> None:
    batch, pose, ctf = views(400)
    projector, alone = Backprojector(SIDE, APIX), Backprojector(SIDE, APIX)
    projector.add(batch, pose, ctf, parity(400))
    even = torch.arange(0, 400, 2)
    alone.add(batch[even], pose[even], ctf[even], torch.zeros(200, dtype=torch.int64))
    torch.testing.assert_close(projector._sums[0], alone._sums[0], rtol=1e-4, atol=1e-3)
    assert alone._sums[1].abs().max() == 0
    first, second = projector.half_maps()
    assert fsc(first + second, projector.volume()).correlation[1:].min() > 0.99


def test_particles_of_another_pixel_size_are_placed_at_their_own_frequencies() -> None:
    batch, pose, ctf = views(800, pixel_size=1.1 * APIX)
    honest, ignorant = Backprojector(SIDE, APIX), Backprojector(SIDE, APIX)
    honest.add(batch, pose, ctf, parity(800))
    same = replace(batch, pixel_size_angstrom=torch.full((800,), APIX))
    ignorant.add(same, pose, ctf, parity(800))
    truth = phantom_volume()
    seen = slice(1, 14)  # 10 % larger pixels end at 0.91 of the volume's Nyquist frequency
    assert fsc(honest.volume(), truth).correlation[seen].min() > 0.98
    assert fsc(ignorant.volume(), truth).correlation[seen].min() < 0.9


def test_frequencies_beyond_the_volumes_own_are_left_out() -> None:
    batch, pose, ctf = views(800, pixel_size=0.8 * APIX)
    projector = Backprojector(SIDE, APIX)
    projector.add(batch, pose, ctf, parity(800))
    assert fsc(projector.volume(), phantom_volume()).correlation[1:].min() > 0.97


def test_a_radius_leaves_the_outer_shells_empty() -> None:
    batch, pose, ctf = views(300)
    projector = Backprojector(SIDE, APIX, radius=8)
    projector.add(batch, pose, ctf, parity(300))
    spectrum = torch.fft.rfftn(projector.volume()).abs()
    assert spectrum[11:16, 0, 0].max() < 0.02 * spectrum[1:8, 0, 0].max()


@pytest.mark.gpu
def test_a_gpu_gives_the_maps_of_the_cpu() -> None:
    batch, pose, ctf = views(200)
    here, there = Backprojector(SIDE, APIX), Backprojector(SIDE, APIX, device="cuda")
    here.add(batch, pose, ctf, parity(200))
    there.add(batch.to("cuda"), pose.to("cuda"), ctf.cuda(), parity(200).cuda())
    peak = here.volume().abs().max()
    assert (here.volume() - there.volume().cpu()).abs().max() < 1e-4 * peak


def reconstruct(
    source: StackSource,
    pose: Pose,
    sign: int = -1,
    use_ctf: bool = True,
    rows: Tensor | None = None,
) -> Backprojection:
    side = source.geometry.box_size
    sample = source.read(torch.arange(0, len(source.table), max(1, len(source.table) // 100)))
    normalisation = Normalisation(*estimate_noise(sample), sign)
    preprocess = Preprocess(side, FourierLattice(side), normalisation)
    return backproject(source, pose, preprocess, rows=rows, use_ctf=use_ctf)


def mirror(volume: Tensor) -> Tensor:
    return volume.flip(0).roll(1, 0)


def truth_of(path: Path) -> Tensor:
    return torch.from_numpy(read_volume(path)[0])


def test_ribosomes_reach_the_reference_and_keep_their_grey_values(homog64: Path) -> None:
    source = open_particles(homog64 / "particles.star")
    maps = reconstruct(source, source.table.pose)
    truth = truth_of(homog64 / "truth.mrc")
    curve = fsc(maps.volume, truth)
    assert curve.mean() > 0.955  # the original: 0.953
    assert curve.correlation[1:].min() > 0.5
    assert fsc(maps.volume, truth, soft_mask(truth)).mean() > 0.976
    slope = float((maps.volume * truth).sum() / truth.square().sum())
    assert slope == pytest.approx(1, abs=0.05)
    # what the halves promise, C_ref = sqrt(2 FSC / (1 + FSC)), is what the truth confirms
    half = fsc(*maps.half_maps).correlation[1:]
    np.testing.assert_allclose(np.sqrt(2 * half / (1 + half)), curve.correlation[1:], atol=0.03)


def test_each_wrong_convention_costs_what_the_reference_says(homog64: Path) -> None:
    # Mean FSC of 300 images: 0.75 as it should be. `benchmarks/wrong_conventions.py` has the table
    # for all 5000.
    source = open_particles(homog64 / "particles.star", select="first:300")
    pose = source.table.pose
    truth = truth_of(homog64 / "truth.mrc")
    flip = torch.diag(torch.tensor([1.0, 1.0, -1.0]))

    def score(pose: Pose, **options: object) -> float:
        return fsc(reconstruct(source, pose, **options).volume, truth).mean()

    right = score(pose)
    swapped = score(replace(pose, shift=pose.shift.flip(-1)))
    unshifted = score(replace(pose, shift=torch.zeros_like(pose.shift)))
    transposed = score(replace(pose, rotation=pose.rotation.mT))
    negated = score(replace(pose, shift=-pose.shift))
    assert right > 0.72
    assert right > swapped + 0.3 > unshifted + 0.3 > transposed + 0.3 > negated + 0.3
    other_hand = reconstruct(source, replace(pose, rotation=flip @ pose.rotation @ flip)).volume
    assert fsc(other_hand, truth).mean() < 0.15
    assert fsc(mirror(other_hand), truth).mean() == pytest.approx(right, abs=0.01)
    assert score(pose, sign=1) == pytest.approx(-right, abs=1e-3)
    # dark images as they lie in the file, without CTF
    assert -0.5 < score(pose, sign=1, use_ctf=False) < -0.3


@pytest.mark.parametrize(
    "conformations", [(3,), pytest.param(tuple(range(10)), marks=pytest.mark.slow)]
)
def test_images_of_one_conformation_give_that_conformation(
    hetero64: Path, conformations: tuple[int, ...]
) -> None:
    source = open_particles(hetero64 / "particles.star")
    label = torch.tensor(pd.read_csv(hetero64 / "labels.csv")["conformation"].to_list())
    truths = [truth_of(hetero64 / "truth" / f"conf_{c:02d}.mrc") for c in range(10)]
    scores = []
    for c in conformations:
        rows = torch.nonzero(label == c)[:, 0]
        volume = reconstruct(source, source.table.pose, rows=rows).volume
        against = [fsc(volume, truth).mean() for truth in truths]
        assert int(np.argmax(against)) == c
        scores.append(against[c])
    assert np.mean(scores) > 0.759  # the original: 0.759


def test_noise_free_projections_give_back_the_toy_model(shared_data: Path) -> None:
    folder = shared_data / "real" / "cryodrgn"
    source = open_particles(
        folder / "toy_projections.mrcs", poses=folder / "toy_angles.pkl", pixel_size_angstrom=1.0
    )
    maps = reconstruct(source, source.table.pose, sign=1)
    truth = truth_of(folder / "toymodel_small_nocenter.mrc")
    assert fsc(maps.volume, truth).mean() > 0.992


def test_a_hundred_views_of_a_hand_agree_by_halves_and_show_its_chirality(
    shared_data: Path,
) -> None:
    folder = shared_data / "real" / "cryodrgn"
    source = open_particles(
        folder / "hand.mrcs", poses=folder / "hand_rot.pkl", pixel_size_angstrom=1.0
    )
    maps = reconstruct(source, source.table.pose, sign=1)
    assert fsc(*maps.half_maps).mean() > 0.825
    assert fsc(maps.volume, mirror(maps.volume)).mean() < 0.5


@pytest.mark.parametrize(
    ("particles", "poses", "sign"),
    [
        ("sim/homog64/first100.star", None, -1),
        ("sim/hetero64/first100.star", None, -1),
        ("real/cryodrgn/toy_projections.mrcs", "real/cryodrgn/toy_angles.pkl", 1),
        ("real/cryodrgn/hand.mrcs", "real/cryodrgn/hand_rot.pkl", 1),
    ],
)
def test_the_sign_is_found_by_experiment(
    shared_data: Path, particles: str, poses: str | None, sign: int
) -> None:
    source = open_particles(
        shared_data / particles,
        poses=None if poses is None else shared_data / poses,
        pixel_size_angstrom=1.0 if poses else None,
    )
    evidence = decide_sign(source, source.table.pose)
    assert evidence.sign == sign
    assert evidence.sign_is_certain
    assert abs(evidence.best.skewness) > 1


def test_an_image_with_pixels_that_are_not_finite_is_named(shared_data: Path) -> None:
    source = open_particles(shared_data / "sim" / "homog64" / "first100.star")

    class Spoiled(StackSource):
        def read(self, index: Tensor) -> Tensor:
            images = super().read(index)
            images[index == 7, 0, 0] = float("nan")
            return images

    spoiled = Spoiled(source.table, source.geometry, source.reader)
    preprocess = Preprocess(64, FourierLattice(64), Normalisation(0.0, 1.0, -1))
    with pytest.raises(InputError, match=r"first100\.star: row 7 "):
        backproject(spoiled, source.table.pose, preprocess)
