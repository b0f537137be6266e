"""Held-out particles train nothing, and their likelihood is that of the textbook."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.decoders.base import LinearDecoder
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.encoders.posterior import LinearPosterior
from cryoem.poses import KnownPoses
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks import HeldOut, MetricsTable
from lightning_modules.held_out import explained_of_held_out, explained_up_to


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=120, snr=1.0)


def read(particles: PhantomParticles, **options: object) -> ParticleDataModule:
    data = ParticleDataModule(
        particles.star, sign="light", batch_size=16, window=None, held_out=0.1, **options
    )
    data.setup()
    return data


def linear_model(data: ParticleDataModule, **options: object) -> HeteroReconstruction:
    torch.manual_seed(0)
    return HeteroReconstruction(
        data.geometry, KnownPoses(data.pose), data.data_scale, decoder=FourierGrid,
        encoder=LinearPosterior, latent_dim=2, amplitude=data.amplitude, **options,
    )  # fmt: skip


def fit(model: Reconstruction, data: ParticleDataModule, folder: Path, epochs: int) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
        callbacks=[MetricsTable(folder), HeldOut()],
    )  # fmt: skip
    trainer.fit(model, data)
    return trainer


def test_held_out_particles_are_in_no_batch_and_all_others_in_one(
    particles: PhantomParticles,
) -> None:
    data = read(particles)
    seen = torch.cat([batch.index for batch in data.train_dataloader()])
    assert len(data.held_out) == 12
    assert sorted([*seen.tolist(), *data.held_out.tolist()]) == list(range(120))
    assert torch.equal(data.held_out, read(particles, seed=5).held_out)
    everyone = torch.cat([batch.index for batch in data.predict_dataloader()])
    assert torch.equal(everyone, torch.arange(120))


def test_for_a_linear_model_the_bound_is_the_exact_log_likelihood(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = read(particles)
    model = linear_model(data)
    fit(model, data, tmp_path, epochs=3)
    found = explained_of_held_out(model, data).double()
    batch = data.on_after_batch_transfer(data.dataset().rows(data.held_out), 0)
    forward, pose = model.forward_model(), model.poses(batch.index)
    coordinates = forward.coordinates(pose.rotation, batch.pixel_size_angstrom)
    decoder = model.decoders[0]
    assert isinstance(decoder, LinearDecoder)
    with torch.no_grad():
        basis = forward.transfer(batch)[..., None] * decoder.basis(coordinates)
    observed = forward.observed(batch, pose.shift)
    for i in range(len(found)):
        # x = A z + noise: a Gaussian with covariance A A^T + 1/2, real and imaginary parts apart
        a = np.concatenate([basis[i, :, 1:].real, basis[i, :, 1:].imag]).astype(float)
        x = (observed[i] - basis[i, :, 0]).numpy()
        x = np.concatenate([x.real, x.imag]).astype(float)
        empty = torch.view_as_real(observed[i]).double().square().sum().item()
        covariance = a @ a.T + np.eye(len(x)) / 2
        log_det = np.linalg.slogdet(2 * covariance)[1]
        exact = -0.5 * (x @ np.linalg.solve(covariance, x) + log_det) + empty
        assert found[i].item() == pytest.approx(exact, rel=1e-3, abs=0.02)


@pytest.mark.parametrize("kind", ["hetero", "homo"])
def test_a_volume_that_learns_explains_more_and_the_table_says_so(
    kind: str, particles: PhantomParticles, tmp_path: Path
) -> None:
    data = read(particles)
    model: Reconstruction = linear_model(data)
    if kind == "homo":
        model = HomoReconstruction(
            data.geometry, KnownPoses(data.pose), data.data_scale, decoder=FourierGrid,
            amplitude=data.amplitude,
        )  # fmt: skip
    trainer = fit(model, data, tmp_path, epochs=4)
    column = pd.read_csv(tmp_path / "metrics.csv")["held_out_explained_nats"].dropna()
    assert len(column) == 4
    assert column.iloc[-1] > column.iloc[0]
    assert column.iloc[-1] > 10
    logged = float(trainer.callback_metrics["held_out/explained_nats"])
    assert logged == pytest.approx(column.iloc[-1], rel=1e-5)
    shares = [explained_of_held_out(model, data, rank, 2) for rank in range(2)]
    assert float(torch.cat(shares).mean()) == pytest.approx(logged, rel=1e-4)


def test_judging_draws_no_numbers_and_does_not_depend_on_beta(particles: PhantomParticles) -> None:
    data = read(particles)
    model = linear_model(data)
    state = torch.get_rng_state()
    first = explained_of_held_out(model, data)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    # the posterior of another beta is another bound, never a better one
    second = explained_of_held_out(linear_model(data, beta=3.0), data)
    assert (second <= first + 1e-3).all()
    assert math.isfinite(float(second.sum()))


def test_frequencies_that_hold_nothing_explain_nothing_and_the_last_is_the_whole(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = read(particles)
    model = linear_model(data)
    fit(model, data, tmp_path, epochs=4)
    whole = float(explained_of_held_out(model, data).mean())
    curve = explained_up_to(model, data)
    assert curve["nats"][-1] == pytest.approx(whole, rel=1e-5)
    length = data.geometry.box_size * data.geometry.pixel_size_angstrom
    reach = np.array(curve["up_to_per_angstrom"]) * length
    np.testing.assert_allclose(reach[[0, -1]], [1, model.compared_radius], atol=1e-6)
    # the phantom is a few smooth blobs: its coarsest third says most, the finest next to nothing
    gain = np.diff(curve["nats"])
    assert abs(gain[-3:].sum()) < 0.1 * whole < gain[:3].sum()
