"""Parts of a batch that are chosen by measurement, and do not change the result."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.table import TableEncoder
from cryoem.poses import RefinedPoses
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction, make_trainer, tune
from lightning_modules.callbacks import LastCheckpoint


def test_the_largest_parts_are_taken_that_are_about_as_fast_as_any() -> None:
    assert tune.best({16: 1.0, 8: 1.02, 4: 1.2}) == 8
    assert tune.best({16: 1.06, 8: 1.0, 4: 1.05}) == 8
    assert tune.best({16: 2.0, 8: 1.0, 4: math.inf}) == 8


def test_larger_parts_are_tried_while_they_are_faster_and_fit() -> None:
    assert tune.still_faster([4.0])
    assert tune.still_faster([4.0, 4.1])
    assert tune.still_faster([4.0, 4.1, 3.0])
    assert tune.still_faster([4.0, 3.0, 3.1])
    assert not tune.still_faster([4.0, 4.1, 3.95])
    assert not tune.still_faster([4.0, math.inf])
    assert not tune.still_faster([4.0, 3.0, math.inf])


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    # the last batch of an epoch has two images
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=50)


def _fit(
    particles: PhantomParticles,
    epochs: int,
    folder: Path,
    ckpt_path: Path | None = None,
    tune: bool = False,
) -> HeteroReconstruction:
    pl.seed_everything(7, verbose=False)
    data = ParticleDataModule(particles.star, sign="light", batch_size=16)
    data.setup()
    model = HeteroReconstruction(
        data.geometry, RefinedPoses(data.pose), data.data_scale, latent_dim=1,
        encoder=TableEncoder, decoder=partial(FourierMLP, width=16, depth=1),
    )  # fmt: skip
    trainer = make_trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[LastCheckpoint(folder)], tune=tune,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return model


def test_a_run_that_is_tuned_ends_like_one_that_is_not_and_keeps_its_parts(
    particles: PhantomParticles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = _fit(particles, 2, tmp_path / "plain")
    measured: list[int] = []

    def seconds(trainer: Any, model: Any, batch: Any) -> float:
        original(trainer, model, batch)
        assert len(batch) == 16
        measured.append(model.parts.n)
        return {16: 9.0, 8: 2.0, 4: 1.0, 2: 1.1, 1: 1.2}[model.parts.n]

    original = tune._seconds
    monkeypatch.setattr(tune, "_seconds", seconds)
    with caplog.at_level("INFO"):
        tuned = _fit(particles, 2, tmp_path / "tuned", tune=True)
    assert measured == [16, 8, 4, 2, 1]
    assert "4: 16 images/s" in caplog.text
    assert tuned.parts.n == 4
    for a, b in zip(plain.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    for one, other in zip(plain.row_tables(), tuned.row_tables(), strict=True):
        torch.testing.assert_close(one.rows, other.rows, rtol=1e-3, atol=1e-5)

    last = tmp_path / "tuned" / "checkpoints" / "last.ckpt"
    resumed = _fit(particles, 3, tmp_path / "tuned", last, tune=True)
    assert measured == [16, 8, 4, 2, 1]
    assert resumed.parts.n == 4


def test_parts_that_do_not_fit_count_as_slow(
    particles: PhantomParticles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = tune._gradient

    def small_memory(trainer: Any, model: Any, part: Any) -> None:
        if len(part) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        gradient(trainer, model, part)

    monkeypatch.setattr(tune, "_gradient", small_memory)
    model = _fit(particles, 1, tmp_path, tune=True)
    assert model.parts.n >= 4
