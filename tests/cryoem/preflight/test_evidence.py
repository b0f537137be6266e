"""Known answers: what is wrong with the files is found out from the images."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from phantom_particles import write_phantom_particles

from benchmarks.preflight import examined, negated, rescaled, shuffled, transposed
from cryoem.batch import Pose
from cryoem.ctf import evaluate_ctf
from cryoem.io.source import StackSource, open_particles
from cryoem.io.volume import write_stack
from cryoem.preflight import decide_sign
from cryoem.preflight.evidence import standard_errors
from cryoem.preflight.readings import STATED
from cryoem.preflight.sample import read_sample
from cryoem.preflight.trial import Reading, _explained, try_reading
from cryoem.preflight.verdicts import Level, judge_poses, judge_sign, judge_transfer

LIGHT = {
    "toy": ("real/cryodrgn/toy_projections.mrcs", "real/cryodrgn/toy_angles.pkl"),
    "hand": ("real/cryodrgn/hand.mrcs", "real/cryodrgn/hand_rot.pkl"),
}
DARK = {"homog": "sim/homog64/first100.star", "hetero": "sim/hetero64/first100.star"}
SETS = [*LIGHT, *DARK]


@pytest.fixture(scope="module")
def opened(shared_data: Path):
    @cache
    def source(name: str) -> StackSource:
        if name in DARK:
            return open_particles(shared_data / DARK[name])
        stack, poses = LIGHT[name]
        return open_particles(shared_data / stack, poses=shared_data / poses)

    return source


@pytest.fixture(scope="module")
def found(opened):
    """Evidence for a set as it is, gathered once."""
    return cache(lambda name: examined(opened(name), opened(name).table.pose))


@pytest.mark.parametrize("name", SETS)
def test_what_is_right_is_called_right(name: str, found) -> None:
    evidence = found(name)
    assert judge_sign(evidence, "auto").level is Level.GOOD
    assert evidence.sign == (-1 if name in DARK else 1)
    assert judge_poses(evidence).level is Level.GOOD
    assert evidence.best is evidence.stated
    assert judge_transfer(evidence).level in (Level.GOOD, Level.NOTE)


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_sign_is_refused_and_a_right_one_is_not(name: str, found) -> None:
    right, wrong = ("dark", "light") if name in DARK else ("light", "dark")
    assert judge_sign(found(name), right).level is Level.GOOD
    verdict = judge_sign(found(name), wrong)
    assert verdict.level is Level.CONTRADICTION
    assert f"say data.sign={right}" in verdict.text


@pytest.mark.parametrize("name", SETS)
def test_the_sign_turns_with_the_stack(name: str, opened) -> None:
    source = opened(name)
    evidence = decide_sign(negated(source), source.table.pose)
    assert evidence.sign == (1 if name in DARK else -1)
    assert evidence.sign_is_certain


@pytest.mark.parametrize("name", SETS)
def test_the_sign_needs_no_poses(name: str, opened) -> None:
    evidence = decide_sign(opened(name), None)
    assert evidence.sign == (-1 if name in DARK else 1)
    assert evidence.sign_is_certain


def test_seven_real_micrograph_cuttings_without_poses_are_dark(shared_data: Path) -> None:
    source = open_particles(shared_data / "real/cryodrgn/empiar_10076_7.star")
    evidence = decide_sign(source, None)
    assert evidence.sign == -1
    assert evidence.sign_is_certain


@pytest.mark.parametrize("name", ["toy", "hand", "homog"])
def test_shuffled_poses_are_refused_and_the_sign_is_found_all_the_same(name: str, opened) -> None:
    evidence = examined(opened(name), shuffled(opened(name).table.pose))
    verdict = judge_poses(evidence)
    assert verdict.level is Level.CONTRADICTION
    assert "not those of these images" in verdict.text
    assert evidence.sign == (-1 if name in DARK else 1)


@pytest.mark.parametrize("name", ["toy", "hand", "homog"])
def test_transposed_rotations_are_refused_by_name(name: str, opened) -> None:
    evidence = examined(opened(name), transposed(opened(name).table.pose))
    verdict = judge_poses(evidence)
    assert verdict.level is Level.CONTRADICTION
    assert "rotations transposed" in verdict.text
    assert evidence.sign_is_certain
    assert evidence.sign == (-1 if name in DARK else 1)


def test_images_upside_down_are_refused_by_name(opened) -> None:
    pose = opened("toy").table.pose
    upside_down = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    evidence = examined(opened("toy"), Pose(upside_down @ pose.rotation, pose.shift))
    assert evidence.posed.reading.name == "images upside down"


def test_shifts_of_another_sign_are_refused_by_name(opened) -> None:
    pose = opened("homog").table.pose
    evidence = examined(opened("homog"), Pose(pose.rotation, -pose.shift))
    assert "shifts negated" in judge_poses(evidence).text
    assert judge_poses(evidence).level is Level.CONTRADICTION


def test_shifts_that_are_not_those_of_the_images_are_refused(shared_data: Path) -> None:
    folder = shared_data / "real/cryodrgn"
    source = open_particles(folder / "toy_projections.mrcs", poses=folder / "toy_rot_trans.pkl")
    assert "shifts ignored" in judge_poses(examined(source, source.table.pose)).text


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_pixel_size_that_is_off_by_two_is_found_and_so_is_the_sign(factor: float, opened) -> None:
    source = rescaled(opened("homog"), factor)
    evidence = examined(source, source.table.pose)
    verdict = judge_transfer(evidence)
    assert verdict.level is Level.CONTRADICTION
    assert f"5, not {5 * factor:g} A" in verdict.text
    assert evidence.sign == -1
    assert evidence.sign_is_certain


def test_a_tilt_series_without_zeros_of_its_ctf_is_not_refused(shared_data: Path) -> None:
    folder = shared_data / "real/cryodrgn"
    source = open_particles(folder / "sta_testing_bin8.star", ctf=folder / "sta_ctf.pkl")
    evidence = examined(source, source.table.pose)
    assert judge_poses(evidence).level is Level.GOOD
    assert judge_transfer(evidence).level is Level.DOUBT


def test_a_handful_of_images_is_no_reason_to_refuse(shared_data: Path) -> None:
    source = open_particles(shared_data / "real/cryodrgn/relion31.star")
    evidence = examined(source, shuffled(source.table.pose))
    assert not evidence.enough
    assert judge_poses(evidence).level is Level.DOUBT


def test_without_poses_only_the_sign_is_tried(opened) -> None:
    evidence = examined(opened("toy"), None)
    assert evidence.control is None
    assert len(evidence.trials) == 1
    assert judge_poses(evidence).level is Level.NOTE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["homog64", "hetero64"])
def test_of_a_whole_set_the_ctf_is_judged_too(name: str, request: pytest.FixtureRequest) -> None:
    source = open_particles(request.getfixturevalue(name) / "particles.star")
    evidence = examined(source, source.table.pose)
    assert evidence.best is evidence.stated
    assert evidence.sign == -1
    for factor in (2.0, 0.5):
        wrong = rescaled(source, factor)
        verdict = judge_transfer(examined(wrong, wrong.table.pose))
        assert verdict.level is Level.CONTRADICTION
    lost = examined(source, shuffled(source.table.pose))
    assert judge_poses(lost).level is Level.CONTRADICTION


def test_noise_explains_nothing_and_has_no_sign(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=200)
    noise = torch.randn(200, 16, 16, generator=torch.Generator().manual_seed(0))
    write_stack(tmp_path / "particles.mrcs", noise.numpy(), 3.0)
    source = open_particles(particles.star)
    evidence = examined(source, source.table.pose)
    assert not evidence.sign_is_certain
    assert not evidence.poses_hold
    assert judge_poses(evidence).level is Level.DOUBT


def test_phases_that_were_flipped_before_are_noticed(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=300, box_size=32)
    source = open_particles(particles.star)
    sample = read_sample(source, source.table.pose, torch.arange(300), 32)
    assert sample.batch.ctf is not None
    ctf = evaluate_ctf(sample.lattice.freqs, sample.batch.pixel_size_angstrom, sample.batch.ctf)
    flipped = replace(
        sample, batch=replace(sample.batch, fourier=sample.batch.fourier * ctf.sign())
    )
    stated = Reading(STATED, sample.pose)
    plain, taken = (try_reading(flipped, r) for r in (stated, replace(stated, flipped=True)))
    assert standard_errors(taken, plain) > 6
    assert taken.power > 0


def test_a_perfect_prediction_explains_everything_and_none_explains_nothing(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=50)
    source = open_particles(particles.star)
    sample = read_sample(source, source.table.pose, torch.arange(50), 16)
    images = sample.batch.fourier
    perfect = _explained(images, images, sample.weight)
    assert float(perfect.mean()) == pytest.approx(1, abs=1e-5)
    assert not _explained(images, torch.zeros_like(images), sample.weight).any()
    assert float(_explained(images, -images, sample.weight).mean()) == pytest.approx(-3, abs=1e-4)
