"""A run that was stopped goes on as if it had not been: bit for bit."""

import functools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from phantom_particles import PhantomParticles, write_phantom_particles

import train
from conf.resume import newest_whole
from cryoem.checkpoint import load_run
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.encoders.mlp import MLPEncoder
from cryoem.encoders.table import TableEncoder
from cryoem.errors import InputError
from cryoem.poses import RefinedPoses, SearchedPoses
from cryoem.poses.searched import random_poses
from datamodules import ParticleDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks import CleanInterrupt, LastCheckpoint, MetricsTable, RandomState
from lightning_modules.callbacks.interrupt import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
KINDS = ("mlp", "table", "homo", "search")
EPOCHS, BATCHES = 3, 4
# of metrics.csv, what does not depend on the clock
EXACT = ["epoch", "step", "loss_nats_per_frequency", "learning_rate"]
EXACT += ["epoch_loss_nats_per_frequency", "held_out_explained_nats", "median_moved_degrees"]


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


def _model(data: ParticleDataModule, kind: str) -> Reconstruction:
    shared = {"data_scale": data.data_scale, "amplitude": data.amplitude}
    small = partial(FourierMLP, width=24, depth=1)
    if kind == "search":
        poses = SearchedPoses(
            random_poses(len(data.table), 1), radii=(3, 4, 6), start_images=64, restarts=2,
            shift_pixels=1.0, held_out=0.2,
        )  # fmt: skip
        return HomoReconstruction(data.geometry, poses, decoder=FourierGrid, **shared)
    poses = RefinedPoses(data.pose, start_epoch=1)
    if kind == "homo":
        return HomoReconstruction(data.geometry, poses, decoder=small, **shared)
    encoder = TableEncoder if kind == "table" else partial(MLPEncoder, width=16, depth=1)
    return HeteroReconstruction(
        data.geometry, poses, decoder=small, encoder=encoder, latent_dim=2,
        beta_warmup_epochs=1.5, **shared,
    )  # fmt: skip


def _run(
    particles: PhantomParticles,
    folder: Path,
    *extra: pl.Callback,
    kind: str = "mlp",
    every_n_steps: int | None = None,
    **where: Any,
) -> Reconstruction:
    """Train in ``folder``, from its checkpoint if there is one."""
    pl.seed_everything(7, verbose=False)
    data = ParticleDataModule(particles.star, sign="light", batch_size=16, **where)
    data.setup()
    model = _model(data, kind)
    callbacks = [
        *extra, MetricsTable(folder, every_n_steps=2), CleanInterrupt(), RandomState(),
        LastCheckpoint(folder, every_n_steps=every_n_steps),
    ]  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=callbacks,
    )  # fmt: skip
    checkpoints = folder / "checkpoints"
    start = newest_whole(checkpoints) if list(checkpoints.glob("[!.]*")) else None
    trainer.fit(model, data, ckpt_path=start)
    return model


class DieSoon(pl.Callback):
    """SIGKILL so many seconds after the given number of steps, whatever is being done then."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.steps, self.seconds = steps, seconds

    def on_train_batch_start(self, *_: Any) -> None:
        if self.steps == 0:
            threading.Timer(self.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        self.steps -= 1


def _killed(*arguments: Any, **options: Any) -> bool:
    """Train in a process of its own; whether it died of what is among its callbacks."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_run, args=arguments, kwargs=options)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


def _same(a: Reconstruction, b: Reconstruction) -> None:
    one, other = a.state_dict(), b.state_dict()
    assert one.keys() == other.keys()
    for key, value in one.items():
        pairs = [(value, other[key])]
        if isinstance(value, dict):
            pairs = [(value[name], other[key][name]) for name in value]
        for left, right in pairs:
            assert torch.equal(left.nan_to_num(), right.nan_to_num()), key


def _same_table(folder: Path, other: Path) -> None:
    one, two = (pd.read_csv(path / "metrics.csv") for path in (folder, other))
    pd.testing.assert_frame_equal(one[EXACT], two[EXACT], check_exact=True)
    assert one["wall_s"].is_monotonic_increasing


@pytest.fixture(scope="module")
def uninterrupted(
    particles: PhantomParticles, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Reconstruction, Path]]:
    @functools.cache
    def run(kind: str) -> tuple[Reconstruction, Path]:
        folder = tmp_path_factory.mktemp(kind)
        return _run(particles, folder, kind=kind), folder

    return run


@pytest.mark.parametrize("kind", ["mlp", "table"])
@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES, BATCHES + 2])
def test_resuming_at_any_step_gives_identical_weights_poses_and_latents(
    particles: PhantomParticles, uninterrupted: Any, tmp_path: Path, kind: str, step: int
) -> None:
    with pytest.raises(SystemExit):
        _run(particles, tmp_path, StopAt(step), kind=kind)
    # not between the last step of an epoch and what is done at its end
    assert load_run(tmp_path).step == step + 1 + (step == BATCHES - 1)
    whole, folder = uninterrupted(kind)
    _same(_run(particles, tmp_path, kind=kind), whole)
    _same_table(tmp_path, folder)


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("table", 3),
        ("search", 2),
        *(pytest.param(kind, 12, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_killed_at_random_moments_a_run_ends_bit_for_bit_as_without(
    particles: PhantomParticles, uninterrupted: Any, tmp_path: Path, kind: str, kills: int
) -> None:
    whole, folder = uninterrupted(kind)
    draw = random.Random(0)
    died = 0
    for _ in range(kills):
        soon = DieSoon(draw.randrange(EPOCHS * BATCHES // 2), draw.uniform(0, 0.05))
        # a checkpoint in every step, so that some die while it is being written
        died += _killed(particles, tmp_path, soon, kind=kind, every_n_steps=1)
    assert died
    _same(_run(particles, tmp_path, kind=kind), whole)
    _same_table(tmp_path, folder)
    assert not list((tmp_path / "checkpoints").glob(".*"))  # what was half written


class KillWhileSaving(pl.Callback):
    """SIGKILL at the given save: in the middle of the file, or between the two renamings."""

    def __init__(self, number: int, renaming: bool) -> None:
        self.left, self.renaming = number, renaming

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        save, rename = trainer.save_checkpoint, Path.replace

        def half(path: Path, **options: Any) -> None:
            save(path, **options)
            self.left -= 1
            if not self.left and not self.renaming:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        def once(source: Path, target: Path) -> Path:
            rename(source, target)
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            return target

        trainer.save_checkpoint = half  # type: ignore[method-assign]
        Path.replace = once  # type: ignore[method-assign]


@pytest.mark.parametrize("renaming", [False, True], ids=["half a file", "between two renamings"])
def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(
    particles: PhantomParticles, uninterrupted: Any, tmp_path: Path, renaming: bool
) -> None:
    killer = KillWhileSaving(5, renaming)
    assert _killed(particles, tmp_path, killer, kind="table", every_n_steps=1)
    assert load_run(newest_whole(tmp_path / "checkpoints")).step == 4
    whole, folder = uninterrupted("table")
    _same(_run(particles, tmp_path, kind="table"), whole)
    _same_table(tmp_path, folder)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_is_used(
    particles: PhantomParticles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _run(particles, tmp_path)
    last, previous = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert newest_whole(last.parent) == last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    last.write_bytes(content)
    assert newest_whole(last.parent) == previous
    assert "last.ckpt is damaged" in caplog.text
    previous.write_bytes(b"")
    with pytest.raises(InputError, match="no good previous"):
        newest_whole(last.parent)


def test_resuming_twice_and_from_disk_with_workers_is_exact_too(
    particles: PhantomParticles, uninterrupted: Any, tmp_path: Path
) -> None:
    for step in (2, 6):
        with pytest.raises(SystemExit):
            _run(particles, tmp_path, StopAt(step), placement="stream", num_workers=1)
    model = _run(particles, tmp_path, placement="stream", num_workers=0)
    _same(model, uninterrupted("mlp")[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_signals_of_a_cluster_save_as_ctrl_c_does(
    particles: PhantomParticles, tmp_path: Path, number: int
) -> None:
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(each) for each in signals]
    with pytest.raises(SystemExit) as status:
        _run(particles, tmp_path, StopAt(2, number))
    assert status.value.__context__.signal == number
    assert load_run(tmp_path).step == 3
    assert [signal.getsignal(each) for each in signals] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_exit_status_tells_the_signal_as_a_shell_does(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        try:
            raise Interrupted(number)
        except Interrupted:  # as Lightning does
            raise SystemExit(1)  # noqa: B904

    fit = train.fit
    trainer = SimpleNamespace(fit=stopped)
    monkeypatch.setattr(train, "train", lambda config: fit(trainer, None, None, None))
    assert train.main([]) == 128 + number
    assert "the same command goes on" in capsys.readouterr().err


def test_checkpoints_appear_complete_or_not_at_all(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    _run(particles, tmp_path)
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert [file.name for file in files] == ["last.ckpt", "previous.ckpt"]
    steps = [torch.load(file, weights_only=True)["global_step"] for file in files]
    assert steps == [EPOCHS * BATCHES, (EPOCHS - 1) * BATCHES]


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

    _run(particles, tmp_path, Watch(), kind="table")
    assert len(changed) == EPOCHS * BATCHES
    assert all(moved == rows for moved, rows in changed)
