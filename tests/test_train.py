"""The training command, in this process, on a data set that takes seconds."""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tiny_training import TINY

import train
from lightning_modules.callbacks import CleanInterrupt

SMALL = (*TINY, "data.simulation.n_particles=48", "trainer.accelerator=cpu", "trainer.max_epochs=1")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def epochs(run: str = "runs/demo") -> list[int]:
    """Epochs in the table of metrics, in its order."""
    return list(pd.read_csv(f"{run}/metrics.csv")["epoch"].drop_duplicates())


@pytest.mark.parametrize("model", ["hetero", "homo"])
def test_a_run_leaves_its_folder_and_nothing_else(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*SMALL, f"model={model}"]) == 0
    run = Path("runs/demo")
    volumes = {"volume.mrc", "half1.mrc", "half2.mrc"}
    if model == "hetero":
        volumes = {"volume_001.mrc", "volume_002.mrc", "volumes.csv"}
    expected = {"config.yaml", "run.log", "metrics.csv", "metrics.json", "report.html", "data"}
    expected |= {"checkpoints", "volumes", "figures", "particles.star"}
    expected |= {"latents.npz"} if model == "hetero" else set()
    assert {path.name for path in run.iterdir()} >= expected
    assert {path.name for path in (run / "volumes").iterdir()} >= volumes
    assert list(run.glob("figures/*.png"))
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 1
    assert "runs/demo/report.html" in capsys.readouterr().out


def test_the_checkpoint_holds_plain_values_and_the_configuration() -> None:
    assert train.main([*SMALL]) == 0
    checkpoint = torch.load("runs/demo/checkpoints/last.ckpt", weights_only=True)
    stored = yaml.safe_load(Path("runs/demo/config.yaml").read_text())
    assert checkpoint["reconstruction"]["config"] == stored


def test_the_same_command_goes_on_and_says_when_it_is_finished(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert train.main([*SMALL]) == 0
    assert train.main([*SMALL, "trainer.max_epochs=2"]) == 0
    assert epochs() == [0, 1]
    before = Path("runs/demo/metrics.csv").stat().st_mtime_ns
    caplog.clear()
    assert train.main([*SMALL, "trainer.max_epochs=2"]) == 0
    assert "runs/demo is finished" in caplog.text
    assert Path("runs/demo/metrics.csv").stat().st_mtime_ns == before


def test_a_run_that_was_stopped_within_an_epoch_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = CleanInterrupt.on_train_start

    def stop(self: CleanInterrupt, *arguments: Any) -> None:
        start(self, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CleanInterrupt, "on_train_start", stop)
        assert train.main([*SMALL]) == 143
    assert not Path("runs/demo/metrics.json").exists()
    assert train.main([*SMALL]) == 0
    metrics = json.loads(Path("runs/demo/metrics.json").read_text())
    assert (metrics["epochs"], metrics["steps"]) == (1, 3)


def test_another_experiment_in_the_folder_is_refused_and_never_starts_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main([*SMALL]) == 0
    stored = Path("runs/demo/config.yaml").read_text()
    other = [*SMALL, "model.beta=0.5"]
    assert train.main(other) == 2
    message = capsys.readouterr().err
    assert "model.beta=1.0, not 0.5" in message
    assert "resume=never" in message
    assert Path("runs/demo/config.yaml").read_text() == stored
    assert train.main([*other, "resume=never"]) == 0
    assert epochs() == [0]
    assert yaml.safe_load(Path("runs/demo/config.yaml").read_text())["model"]["beta"] == 0.5


def test_a_new_start_leaves_nothing_of_the_run_before() -> None:
    first, run = Path("runs/demo"), Path("runs/other")
    more = [
        "logger=many",
        "logger.wandb.offline=true",
        "preflight=true",
        "+trainer.log_every_n_steps=1",
    ]
    assert train.main([*SMALL, *more]) == 0
    # as another command, a failure and a reader might have left it
    for name in ("divergence.csv", "suspicious.csv", "signals.json", "checkpoints/previous.ckpt"):
        (first / name).write_text("of the first run\n")
    own = {"my_notes.txt", "volumes/mask.mrc", "volumes/volume_1.mrc", "figures/mine.png"}
    for name in own:
        (first / name).write_text("a person's own\n")
    began = time.time() - 1
    for path in first.rglob("*"):
        then = path.stat().st_mtime - 60
        os.utime(path, (then, then))
    assert train.main([*SMALL, "model=homo", "resume=never"]) == 0
    assert train.main([*SMALL, "model=homo", "name=other"]) == 0

    def listed(folder: Path) -> set[str]:
        """Without the runs of W&B, which stay."""
        paths = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        return {str(path) for path in paths if path.parts[0] != "wandb"}

    assert listed(first) == listed(run) | own
    old = {name for name in listed(first) if (first / name).stat().st_mtime < began}
    assert {name for name in old if not name.startswith("data/")} == own
    assert len(list(first.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert not (first / "tensorboard").exists()


def test_starting_over_does_not_remove_what_the_new_run_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main([*SMALL]) == 0
    last = Path("runs/demo/checkpoints/last.ckpt")
    before = last.read_bytes()
    for given in (last, last.parents[1]):
        assert train.main([*SMALL, "resume=never", f"ckpt_path={given}"]) == 2
        assert f"ckpt_path={last}: a run in runs/demo" in capsys.readouterr().err
    assert last.read_bytes() == before


def test_a_run_in_the_folder_of_its_particles_does_not_write_over_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main([*SMALL]) == 0
    particles = Path("runs/demo/data/particles.star")
    before = particles.read_bytes()
    own = [override for override in SMALL if "simulation" not in override]
    command = [*own, "data=particles", f"data.particles={particles}"]
    assert train.main([*command, "output_dir=runs/demo/data"]) == 2
    assert f"data.particles={particles}: a run in runs/demo/data" in capsys.readouterr().err
    assert particles.read_bytes() == before


def test_warnings_of_the_run_before_are_not_in_the_report_of_a_new_one() -> None:
    assert train.main([*SMALL]) == 0
    with Path("runs/demo/run.log").open("a") as file:
        file.write("2026-01-01 00:00:00,000 WARNING train: the first run had a fever\n")
    assert train.main([*SMALL, "trainer.max_epochs=2"]) == 0
    assert "had a fever" in Path("runs/demo/report.html").read_text()
    assert train.main([*SMALL, "resume=never"]) == 0
    assert "had a fever" not in Path("runs/demo/report.html").read_text()


def test_a_failed_new_start_keeps_what_the_earlier_run_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main([*SMALL]) == 0
    checkpoint = Path("runs/demo/checkpoints/last.ckpt").read_bytes()
    network = ["model/encoder=mlp", "model/decoder=fourier_mlp", "model.decoder.encoding=nope"]
    assert train.main([*SMALL, *network, "resume=never"]) == 2
    assert "nope" in capsys.readouterr().err
    assert Path("runs/demo/checkpoints/last.ckpt").read_bytes() == checkpoint
    assert epochs() == [0]


def test_a_run_is_repeated_from_its_own_configuration() -> None:
    assert train.main([*SMALL]) == 0
    again = ["--config-dir", "runs/demo", "--config-name", "config", "output_dir=runs/again"]
    assert train.main(again) == 0
    first, second = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("demo", "again")
    )
    networks = [key for key in first if not key.startswith("poses.")]
    for key in networks:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)


def test_weights_of_another_run_are_where_a_run_starts() -> None:
    assert train.main([*SMALL]) == 0
    new = [*SMALL, "name=second", "ckpt_path=runs/demo", "model.optimizer.lr=1e-30"]
    assert train.main(new) == 0
    first, second = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("demo", "second")
    )
    key = max(first, key=lambda key: first[key].numel() if torch.is_tensor(first[key]) else 0)
    torch.testing.assert_close(first[key], second[key])
