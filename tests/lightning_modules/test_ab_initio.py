"""Poses of an analytic phantom found by search, and what can go wrong on the way."""

import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.batch import Pose
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.mlp import MLPEncoder
from cryoem.encoders.posterior import LinearPosterior
from cryoem.errors import InputError
from cryoem.grids import symmetry_group
from cryoem.metrics.alignment import align_poses
from cryoem.metrics.pose_error import pose_errors
from cryoem.poses import KnownPoses, SearchedPoses
from cryoem.poses.searched import random_poses
from cryoem.rotations import random_rotations
from datamodules import ParticleDataModule
from datamodules.order import shuffled
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.ab_initio import AbInitio, Health
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks import CleanInterrupt, LastCheckpoint, RandomState
from lightning_modules.inference import example_images
from lightning_modules.optim import adam, warmup_cosine

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]
SETTINGS = {"radii": (3, 5, 8), "start_images": 320, "shift_pixels": 2.0, "held_out": 0.1}
LINEAR = {"decoder": FourierGrid, "encoder": LinearPosterior}
NETWORKS = {
    "decoder": partial(FourierMLP, width=16, depth=1),
    "encoder": partial(MLPEncoder, width=16, depth=1),
}


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=320, snr=20.0)


def _data(particles: PhantomParticles, **options: Any) -> ParticleDataModule:
    options = {"sign": "light", "batch_size": 32, "window": None, **options}
    data = ParticleDataModule(particles.star, **options)
    data.setup()
    return data


def _homo(data: ParticleDataModule, start: Pose, **options: Any) -> HomoReconstruction:
    torch.manual_seed(0)
    return HomoReconstruction(
        data.geometry, SearchedPoses(start, **{**SETTINGS, **options}), data.data_scale,
        decoder=FourierGrid, optimizer=partial(adam, lr=2e-3), amplitude=data.amplitude,
    )  # fmt: skip


def _hetero(data: ParticleDataModule, start: Pose, networks: dict) -> HeteroReconstruction:
    torch.manual_seed(0)
    return HeteroReconstruction(
        data.geometry, SearchedPoses(start, **SETTINGS), data.data_scale,
        latent_dim=2, amplitude=data.amplitude, **networks,
    )  # fmt: skip


def _fit(
    model: Reconstruction, data: ParticleDataModule, epochs: int, *callbacks: pl.Callback,
    ckpt_path: Path | None = None,
) -> AbInitio:  # fmt: skip
    saves = any(isinstance(callback, LastCheckpoint) for callback in callbacks)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=saves,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        max_epochs=epochs, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return next(c for c in trainer.callbacks if isinstance(c, AbInitio))  # type: ignore[attr-defined]


def _errors(model: Reconstruction, particles: PhantomParticles) -> tuple[float, float]:
    """Median errors, degrees and pixels, once frame, hand and origin have been solved for."""
    found = model.poses.table()
    aligned = align_poses(found, particles.pose).in_frame_of_truth(found)
    errors = pose_errors(aligned, particles.pose)
    return float(errors.angle_degrees.median()), float(errors.shift_pixels.median())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_particles_that_come_are_not_the_held_out_ones(
    particles: PhantomParticles, seed: int
) -> None:
    poses = SearchedPoses(random_poses(320, seed), held_out=0.1, seed=seed)
    for epoch in range(3):
        first = shuffled(torch.zeros(320, dtype=torch.int64), seed, epoch)[:32]
        assert torch.isin(first, poses.held_out).float().mean() < 0.4


def _learnt(particles: PhantomParticles) -> dict[str, Any]:
    """Weights of two half-set volumes, learnt with the true poses."""
    data = _data(particles)
    model = _homo(data, particles.pose)
    model.poses = KnownPoses(particles.pose)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=20,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return model.forward_models.state_dict()


def test_under_a_volume_that_is_right_random_poses_are_found_and_it_stays_right(
    particles: PhantomParticles,
) -> None:
    data = _data(particles)
    model = _homo(data, random_poses(320, 1), restarts=0)
    model.forward_models.load_state_dict(_learnt(particles))
    _fit(model, data, 5)
    angle, shift = _errors(model, particles)

    assert angle < 10  # the finest shell has a period of 45 degrees
    assert shift < 0.3
    sure = model.poses.margin()
    assert sure.isfinite().all()  # also of who was last searched nearby, without a rival
    assert (sure > 3).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_nothing_the_search_finds_poses_up_to_frame_hand_and_origin(
    particles: PhantomParticles, seed: int
) -> None:
    data = _data(particles, batch_size=16)
    model = _homo(data, random_poses(320, seed), start_images=320 * 24, seed=seed)
    _fit(model, data, 48)
    angle, shift = _errors(model, particles)
    assert angle < 12
    assert shift < 0.3


@pytest.mark.slow
def test_poses_of_a_symmetric_particle_are_found_up_to_its_group_and_its_volume_stays_symmetric(
    tmp_path: Path,
) -> None:
    particles = write_phantom_particles(tmp_path, n=320, snr=20.0, symmetry="C3")
    model = _homo(_data(particles), random_poses(320, 1), restarts=0, symmetry="C3")
    model.forward_models.load_state_dict(_learnt(particles))
    _fit(model, _data(particles), 5)
    group = symmetry_group("C3")
    errors = pose_errors(model.poses.table(), particles.pose, group)
    assert errors.angle_degrees.median() < 10
    assert errors.shift_pixels.median() < 0.3
    freqs = model.lattice.freqs @ random_rotations(1, torch.Generator().manual_seed(0)).float()
    volume, mate = (model.decoders[0](points) for points in (freqs, freqs @ group[1].float()))
    assert (volume - mate).abs().square().sum() < 0.1 * volume.abs().square().sum()


@pytest.mark.parametrize("networks", [LINEAR, NETWORKS], ids=["linear", "networks"])
def test_the_search_runs_with_latents_and_all_particles_get_poses(
    particles: PhantomParticles, networks: dict
) -> None:
    data = _data(particles, batch_size=64)
    model = _hetero(data, random_poses(320, 1), networks)
    _fit(model, data, 4)
    assert not model.consensus
    assert model.poses.moved_degrees().isfinite().all()
    assert model.compared_radius == model.lattice.radius


@pytest.mark.parametrize("networks", [LINEAR, NETWORKS], ids=["linear", "networks"])
def test_in_a_start_images_are_predicted_by_the_one_volume(
    particles: PhantomParticles, networks: dict
) -> None:
    data = _data(particles)
    model = _hetero(data, particles.pose, networks)
    model.consensus = True
    rows = torch.arange(5)
    _, _, predicted = example_images(model, data, rows)
    batch = data.on_after_batch_transfer(data.dataset().rows(rows), 0)
    forward, zero = model.forward_model(), torch.zeros(5, 2)
    pose = particles.pose[rows]
    slices = forward.slices(pose.rotation, batch.pixel_size_angstrom, zero)
    expected = model.lattice.scatter((slices * forward.transfer(batch).abs()).detach())
    torch.testing.assert_close(predicted, expected)


def test_an_interrupted_search_goes_on_bit_for_bit(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    class StopAt(pl.Callback):
        def __init__(self, step: int) -> None:
            self.step = step

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == self.step:
                os.kill(os.getpid(), signal.SIGINT)

    def run(folder: Path, *extra: pl.Callback) -> HomoReconstruction:
        pl.seed_everything(7, verbose=False)
        data = _data(particles, batch_size=64)
        model = _homo(data, random_poses(320, 1), restarts=2)
        last = folder / "checkpoints" / "last.ckpt"
        callbacks = [*extra, CleanInterrupt(), RandomState(), LastCheckpoint(folder)]
        _fit(model, data, 6, *callbacks, ckpt_path=last if last.exists() else None)
        return model

    straight = run(tmp_path / "straight")
    # in the first and the second start, between two renewals of a later search, in a fixed epoch
    for step in (2, 8, 13, 21):
        with pytest.raises(SystemExit):
            run(tmp_path / "stopped", StopAt(step))
    resumed = run(tmp_path / "stopped")
    for key, value in straight.state_dict().items():
        other = resumed.state_dict()[key]
        pairs = value.items() if isinstance(value, dict) else [(key, value)]
        for name, left in pairs:
            right = other[name] if isinstance(value, dict) else other
            assert torch.equal(left.nan_to_num(), right.nan_to_num()), f"{key} {name}"


def test_of_several_starts_the_one_goes_on_that_explains_held_out_particles_best(
    particles: PhantomParticles, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(particles)
    model = _homo(data, random_poses(320, 1), restarts=3, start_images=96)
    weights: list[torch.Tensor] = []

    def judge(self: AbInitio, trainer: pl.Trainer) -> Health:
        if self._finished_starts == 3:
            return Health(9.0, 1.0, 1.0)
        weights.append(model.decoders[0].table.detach().clone())
        return Health([5.0, 9.0, 7.0][len(weights) - 1], 1.0, 1.0)

    put_back: list[torch.Tensor] = []
    original = AbInitio._put_back

    def note(self: AbInitio, trainer: pl.Trainer) -> None:
        original(self, trainer)
        put_back.append(model.decoders[0].table.detach().clone())

    monkeypatch.setattr(AbInitio, "_judge", judge)
    monkeypatch.setattr(AbInitio, "_put_back", note)
    # no epoch ends within the starts, so every judgement there is of a start
    _fit(model, data, 4)
    assert len(put_back) == 1
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(put_back[0], weights[1])


def test_a_start_that_has_just_begun_is_no_collapse_of_the_one_before(
    particles: PhantomParticles, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(particles)
    # the first epoch ends after the first step of the second start, while poses are random
    model = _homo(data, random_poses(320, 1), restarts=2, start_images=288)

    def judge(self: AbInitio, trainer: pl.Trainer) -> Health:
        return Health(1.0 if self._finished_starts == 1 else 9.0, 1.0, 1.0)

    monkeypatch.setattr(AbInitio, "_judge", judge)
    assert _fit(model, data, 4)._rollbacks == 0


def test_a_volume_that_collapses_goes_back_to_its_best_and_learns_more_slowly(
    particles: PhantomParticles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(particles)
    model = _homo(data, particles.pose)
    best: list[torch.Tensor] = []

    def judge(self: AbInitio, trainer: pl.Trainer) -> Health:
        if trainer.current_epoch < 3:
            best[:] = [model.decoders[1].table.detach().clone()]
        return Health(100.0 if trainer.current_epoch < 3 else math.nan, 1.0, 1.0)

    monkeypatch.setattr(AbInitio, "_judge", judge)
    search = _fit(model, data, 4)
    assert "collapsed" in caplog.text
    assert torch.equal(model.decoders[1].table, best[0])
    assert search.state_dict()["lr_factor"] == 0.5
    assert search.state_dict()["rollbacks"] == 1


def test_the_volume_learns_three_times_as_fast_in_a_start(particles: PhantomParticles) -> None:
    rates: list[float] = []

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    data = _data(particles)
    model = _homo(data, random_poses(320, 1), start_images=320, restarts=1)  # ten of forty
    _fit(model, data, 4, Note())
    expected = [
        2e-3 * warmup_cosine(step, 40.0, 0.02, 0.05) * (3 if step < 10 else 1) for step in range(40)
    ]
    assert rates == pytest.approx(expected)


def test_particles_of_different_pixel_sizes_are_refused(particles: PhantomParticles) -> None:
    data = _data(particles)
    data.table.pixel_size_angstrom[5] *= 1.1
    with pytest.raises(InputError, match=r"pixel sizes from 3 to 3\.3 .*data\.select"):
        _fit(_homo(data, particles.pose), data, 2)
