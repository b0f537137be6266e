"""Training on an analytic phantom: the volume is found, and the bookkeeping is exact."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.checkpoint import load_run
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.mlp import MLPEncoder
from cryoem.metrics.fsc import fsc
from cryoem.poses import KnownPoses, RefinedPoses
from cryoem.volume import evaluate_volumes
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.base import Reconstruction
from lightning_modules.optim import adam, warmup_cosine

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]
DECODER = partial(FourierMLP, width=64, depth=1, encoding="geom_ft")
SIGNAL = slice(1, 5)  # shells where the blobs have more than a tenth of their amplitude


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=240, snr=4.0)


def _data(particles: PhantomParticles) -> ParticleDataModule:
    data = ParticleDataModule(particles.star, sign="light", batch_size=32, window=None)
    data.setup()
    return data


def _model(kind: str, data: ParticleDataModule, **options: Any) -> Reconstruction:
    torch.manual_seed(0)
    poses = options.pop("poses", KnownPoses)(data.pose)
    shared = {"amplitude": data.amplitude, "decoder": DECODER, "optimizer": partial(adam, lr=1e-2)}
    if kind == "homo":
        return HomoReconstruction(data.geometry, poses, data.data_scale, **shared, **options)
    return HeteroReconstruction(
        data.geometry, poses, data.data_scale,
        encoder=partial(MLPEncoder, width=32, depth=1), latent_dim=2, **shared, **options,
    )  # fmt: skip


def _trainer(folder: Path, epochs: int, **options: Any) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    return pl.Trainer(
        max_epochs=epochs, default_root_dir=folder,
        enable_model_summary=False, use_distributed_sampler=False, **{**settings, **options},
    )  # fmt: skip


def test_two_half_set_volumes_agree_with_the_phantom_and_each_other(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = _data(particles)
    model = _model("homo", data)
    trainer = _trainer(tmp_path, epochs=25)
    trainer.fit(model, data)
    halves = [evaluate_volumes(d.eval(), 16, None, torch.device("cpu"))[0] for d in model.decoders]
    truth = particles.phantom.density()
    for half in halves:
        assert fsc(half, truth).correlation[SIGNAL].min() > 0.9
    assert fsc(halves[0], halves[1]).correlation[SIGNAL].min() > 0.9
    volume = (halves[0] + halves[1]) / 2 / data.data_scale
    assert fsc(volume, truth).correlation[SIGNAL].min() > 0.95
    # in the units of the file, not only correlated; the mean is not in the data
    centred = truth - truth.mean()
    assert float((volume * centred).sum() / centred.square().sum()) == pytest.approx(1.0, abs=0.1)
    assert float(trainer.callback_metrics["train/loss"]) < 1


def test_the_elbo_falls_and_its_parts_are_logged(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = _data(particles)
    model = _model("hetero", data)
    losses = []

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            losses.append(float(outputs["loss"]))

    trainer = _trainer(tmp_path, epochs=8, callbacks=[Note()])
    trainer.fit(model, data)
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    values = {k: float(v) for k, v in trainer.callback_metrics.items()}
    n = model.lattice.n_freqs
    assert values["train/loss"] == pytest.approx(
        values["train/error"] + model.beta * values["train/kl"] / n, rel=1e-5
    )


def test_bfloat16_loss_is_within_a_percent_of_float32(particles: PhantomParticles) -> None:
    data = _data(particles)
    model = _model("hetero", data)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(1)
    exact = model.loss_terms(batch).error.detach().mean()
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.loss_terms(batch)
    assert rounded.error.dtype == torch.float32
    assert float(rounded.error.detach().mean()) == pytest.approx(float(exact), rel=0.01)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_coordinates_ctf_and_data_are_float32_at_every_precision(
    particles: PhantomParticles, precision: str, tmp_path: Path
) -> None:
    data = _data(particles)
    model = _model("hetero", data)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    with torch.autocast("cpu", dtype=dtype, enabled=precision != "32-true"):
        view = model.view(batch)
    assert view.coordinates.dtype == view.transfer.dtype == torch.float32
    exact = model.view(batch)
    assert torch.equal(view.coordinates, exact.coordinates)
    assert torch.equal(view.observed, exact.observed)


def test_refined_poses_move_in_training_and_known_ones_do_not(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = _data(particles)
    refined = _model("homo", data, poses=partial(RefinedPoses, start_epoch=1))
    before = refined.poses.table()
    _trainer(tmp_path, epochs=1).fit(refined, data)
    assert torch.equal(refined.poses.table().shift, before.shift)  # held fixed in epoch 0
    _trainer(tmp_path, epochs=2).fit(refined, data)
    assert (refined.poses.table().shift != before.shift).any(dim=1).all()
    assert (refined.poses.rotation.adam.state["steps"] == 1).all()


def test_a_checkpoint_rebuilds_the_networks_without_lightning_or_configuration(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    data = _data(particles)
    model = _model("hetero", data)
    model.config = {"seed": 0, "path": str(tmp_path)}
    trainer = _trainer(tmp_path, epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    run = load_run(tmp_path)
    freqs = 0.4 * torch.rand(3, 20, 3) - 0.2
    z = torch.randn(3, 2)
    assert torch.equal(run.decoders[0](freqs, z), model.decoders[0](freqs, z))
    batch = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    view = model.view(batch)
    assert torch.equal(run.encoder(view).mean, model.encoder(view).mean)
    assert run.config == model.config
    assert run.geometry == data.geometry
    assert run.data_scale == pytest.approx(data.data_scale)
    assert torch.equal(run.pose.rotation, data.pose.rotation)
    assert (run.kind, run.latent_dim, run.epoch, run.step) == ("hetero", 2, 1, 8)


def test_weights_of_another_run_are_a_start(particles: PhantomParticles, tmp_path: Path) -> None:
    data = _data(particles)
    model = _model("homo", data)
    trainer = _trainer(tmp_path, epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = HomoReconstruction(data.geometry, KnownPoses(data.pose), decoder=DECODER)
    other.start_from(tmp_path / "a.ckpt")
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    factor = partial(warmup_cosine, total=1000.0, warmup_fraction=0.1, final_fraction=0.05)
    assert factor(49) == pytest.approx(50 / 101)
    assert factor(100) == pytest.approx(1.0)
    assert factor(550) == pytest.approx(0.05 + 0.95 / 2)
    assert factor(1000) == pytest.approx(0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("placement", ["ram", "gpu"])
def test_every_precision_finds_the_same_on_a_gpu(
    particles: PhantomParticles, tmp_path: Path, placement: str
) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        data = ParticleDataModule(
            particles.star, sign="light", batch_size=32, window=None, placement=placement
        )
        data.setup()
        model = _model("homo", data, poses=partial(RefinedPoses, start_epoch=2))
        trainer = _trainer(tmp_path, epochs=10, accelerator="gpu", devices=1, precision=precision)
        trainer.fit(model, data)
        losses[precision] = float(trainer.callback_metrics["train/loss"])
        assert model.poses.table().rotation.isfinite().all()
        assert (model.poses.rotation.adam.state["steps"] > 0).all()
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.1)
    assert losses["16-mixed"] == pytest.approx(losses["32-true"], rel=0.1)
