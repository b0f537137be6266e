"""A run that was stopped goes on as if it had not been: bit for bit."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.checkpoint import load_run
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.mlp import MLPEncoder
from cryoem.encoders.table import TableEncoder
from cryoem.poses import RefinedPoses
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction
from lightning_modules.callbacks import CleanInterrupt, LastCheckpoint, MetricsTable, RandomState

ENCODERS = {"mlp": partial(MLPEncoder, width=16, depth=1), "table": TableEncoder}
EPOCHS, BATCHES = 3, 4


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=14 + 16 * 3)


class StopAt(pl.Callback):
    """Ctrl-C while the given step is being made."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def _run(
    particles: PhantomParticles,
    folder: Path,
    *extra: pl.Callback,
    encoder: str = "mlp",
    **where: Any,
) -> HeteroReconstruction:
    """Train in ``folder``, from its checkpoint if there is one."""
    pl.seed_everything(7, verbose=False)
    data = ParticleDataModule(particles.star, sign="light", batch_size=16, **where)
    data.setup()
    model = HeteroReconstruction(
        data.geometry, RefinedPoses(data.pose, start_epoch=1), data.data_scale,
        decoder=partial(FourierMLP, width=24, depth=1), encoder=ENCODERS[encoder], latent_dim=2,
        amplitude=data.amplitude, beta_warmup_epochs=1.5,
    )  # fmt: skip
    callbacks = [
        *extra, MetricsTable(folder, every_n_steps=1), CleanInterrupt(), RandomState(),
        LastCheckpoint(folder),
    ]  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=callbacks,
    )  # fmt: skip
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    return model


def _same(a: HeteroReconstruction, b: HeteroReconstruction) -> None:
    one, other = a.state_dict(), b.state_dict()
    assert one.keys() == other.keys()
    for key, value in one.items():
        pairs = [(value, other[key])]
        if isinstance(value, dict):
            pairs = [(value[name], other[key][name]) for name in value]
        for left, right in pairs:
            assert torch.equal(left, right), key


@pytest.fixture(scope="module")
def uninterrupted(
    particles: PhantomParticles, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[HeteroReconstruction, Path]]:
    runs = {}
    for encoder in ENCODERS:
        folder = tmp_path_factory.mktemp(encoder)
        runs[encoder] = (_run(particles, folder, encoder=encoder), folder)
    return runs


@pytest.mark.parametrize("encoder", ["mlp", "table"])
@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES, BATCHES + 2])
def test_resuming_at_any_step_gives_identical_weights_poses_and_latents(
    particles: PhantomParticles, uninterrupted: dict, tmp_path: Path, encoder: str, step: int
) -> None:
    with pytest.raises(SystemExit):
        _run(particles, tmp_path, StopAt(step), encoder=encoder)
    assert load_run(tmp_path).step == step + 1
    _same(_run(particles, tmp_path, encoder=encoder), uninterrupted[encoder][0])


def test_resuming_twice_and_from_disk_with_workers_is_exact_too(
    particles: PhantomParticles, uninterrupted: dict, tmp_path: Path
) -> None:
    for step in (2, 6):
        with pytest.raises(SystemExit):
            _run(particles, tmp_path, StopAt(step), placement="stream", num_workers=1)
    model = _run(particles, tmp_path, placement="stream", num_workers=0)
    _same(model, uninterrupted["mlp"][0])


def test_sigterm_saves_as_ctrl_c_does(particles: PhantomParticles, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as status:
        _run(particles, tmp_path, StopAt(2, signal.SIGTERM))
    assert status.value.code != 0
    assert load_run(tmp_path).step == 3
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_table_of_metrics_has_every_step_once_after_resuming(
    particles: PhantomParticles, uninterrupted: dict, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        _run(particles, tmp_path, StopAt(5))
    # as if the machine had died two steps after the last checkpoint
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("1,7,9.0,1.0,1.0,1.0,0.001,100.0,,,\n1,8,9.5,1.0,1.0,1.0,0.001,100.0,,,\n")
    _run(particles, tmp_path)
    whole = pd.read_csv(uninterrupted["mlp"][1] / "metrics.csv")
    resumed = pd.read_csv(tmp_path / "metrics.csv")
    columns = ["epoch", "step", "loss_nats_per_frequency", "kl_nats", "learning_rate"]
    steps = whole["loss_nats_per_frequency"].notna()
    resumed_steps = resumed["loss_nats_per_frequency"].notna()
    pd.testing.assert_frame_equal(
        whole[steps][columns].reset_index(drop=True),
        resumed[resumed_steps][columns].reset_index(drop=True),
    )
    assert resumed["wall_s"].is_monotonic_increasing
    assert whole["epoch_loss_nats_per_frequency"].notna().sum() == EPOCHS


def test_checkpoints_appear_complete_or_not_at_all(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    _run(particles, tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)


def test_latents_of_a_table_change_only_for_the_rows_in_the_batch(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    changed = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
            self.before = module.encoder.table.rows.clone()

        def on_train_batch_end(
            self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, i: int
        ) -> None:
            moved = (module.encoder.table.rows != self.before).any(dim=1).nonzero()[:, 0]
            changed.append((moved.tolist(), batch.index.sort().values.tolist()))

    _run(particles, tmp_path, Watch(), encoder="table")
    assert len(changed) == EPOCHS * BATCHES
    assert all(moved == rows for moved, rows in changed)
