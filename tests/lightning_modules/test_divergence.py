"""Batches that would spoil a model, or do not fit: left out and named, or taken in parts."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.table import TableEncoder
from cryoem.errors import InputError
from cryoem.poses import RefinedPoses
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.base import LossTerms, Reconstruction
from lightning_modules.callbacks import Divergence, LastCheckpoint
from lightning_modules.parts import Parts

EPOCHS, BATCHES = 4, 4


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=64)


def _models(kind: type[Reconstruction]) -> Any:
    options = {"decoder": partial(FourierMLP, width=16, depth=1)}
    if kind is HeteroReconstruction:
        options |= {"encoder": TableEncoder, "latent_dim": 1}
    return partial(kind, **options)


def _fit(
    particles: PhantomParticles, folder: Path, spoil: Any, kind: Any = HeteroReconstruction,
    patience: int = 5,
) -> Reconstruction:  # fmt: skip
    """Train with the errors of each batch as ``spoil(step, errors)`` makes them."""
    pl.seed_everything(7, verbose=False)
    data = ParticleDataModule(particles.star, sign="light", batch_size=16)
    data.setup()
    model = _models(kind)(data.geometry, RefinedPoses(data.pose), data.data_scale)
    honest = model.loss_terms

    def loss_terms(batch: Any) -> LossTerms:
        terms = honest(batch)
        return LossTerms(spoil(model.global_step, terms.error), terms.kl, terms.beta, terms.latent)

    model.loss_terms = loss_terms
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[Divergence(folder, patience, every_n_steps=3), LastCheckpoint(folder)],
    )  # fmt: skip
    trainer.fit(model, data)
    return model


def _state(model: Reconstruction) -> list[torch.Tensor]:
    tables = [table.rows for table in model.row_tables()]
    return [value.detach().clone() for value in (*model.parameters(), *tables)]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("factor", [torch.nan, torch.inf, 1e3], ids=["nan", "infinite", "large"])
def test_a_batch_that_would_spoil_the_model_moves_nothing_and_its_particles_are_named(
    particles: PhantomParticles,
    tmp_path: Path,
    factor: float,
    parts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before: list[list[torch.Tensor]] = []

    def spoil(step: int, error: torch.Tensor) -> torch.Tensor:
        now = model_of["model"].parts.now
        if step in (6, 7) and now == 0:
            before.append(_state(model_of["model"]))
        if step != 6 or now < parts - 1:  # the last part spoils those before it
            return error
        return torch.cat([error[:3], error[3:4] * factor * len(error), error[4:]])

    model_of: dict[str, Reconstruction] = {}
    make = _models(HeteroReconstruction)

    def watched(*args: Any, **options: Any) -> Reconstruction:
        model_of["model"] = make(*args, **options)
        model_of["model"].parts.n = parts
        return model_of["model"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_divergence._models", lambda kind: watched)
        model = _fit(particles, tmp_path, spoil)
    for was, became in zip(*before, strict=True):  # rotations are made orthogonal again
        torch.testing.assert_close(became, was, rtol=0, atol=1e-6)
    assert all(value.isfinite().all() for value in _state(model))
    assert caplog.text.count("the step was not made") == 1
    assert "step 7: loss" in caplog.text  # the seventh


def test_without_a_good_step_a_run_stops_with_the_evidence_and_an_earlier_checkpoint(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    def spoil(step: int, error: torch.Tensor) -> torch.Tensor:
        return error if step < 2 * BATCHES else error * torch.nan

    with pytest.raises(InputError, match="steps in a row, from step 9"):
        _fit(particles, tmp_path, spoil)
    evidence = pd.read_csv(tmp_path / "divergence.csv")
    assert sorted(evidence["step"].unique())[:5] == [9, 10, 11, 12, 13]
    assert evidence["particle_row"].between(0, 63).all()
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    # not that of step 8, whose next step already failed: the one before
    assert checkpoint["global_step"] == BATCHES


@pytest.mark.parametrize("kind", [HeteroReconstruction, HomoReconstruction])
def test_where_memory_is_short_a_batch_is_taken_in_parts_with_the_same_result(
    particles: PhantomParticles, tmp_path: Path, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def small_memory(step: int, error: torch.Tensor) -> torch.Tensor:
        if step >= 2 and len(error) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return error

    whole = _fit(particles, tmp_path / "whole", lambda step, error: error, kind)
    in_parts = _fit(particles, tmp_path / "parts", small_memory, kind)
    assert "each batch is taken in 4 parts" in caplog.text
    for a, b in zip(_state(whole), _state(in_parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    losses = [m.trainer.callback_metrics["train/loss"] for m in (whole, in_parts)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)


def test_memory_that_does_not_suffice_for_anything_is_said(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    def no_memory(step: int, error: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match="out of memory"):
        _fit(particles, tmp_path, no_memory)


def test_parts_join_to_the_rows_they_were_taken_from() -> None:
    parts, rows = Parts(), torch.arange(7.0)
    parts.n = 3
    for now in range(parts.n):
        parts.now = now
        part = rows[now :: parts.n]
        joined = parts.join({"each": part, "sum": part.sum()}, len(rows))
    assert torch.equal(joined["each"], rows)
    assert joined["sum"] == rows.sum()
