"""Weights & Biases without an account: what lies in its folders after real trainings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
from tiny_training import TINY
from wandb_files import OfflineRun, offline_runs

import train
from conf.checks import check
from conf.compose import compose
from conf.folder import begin
from conf.resume import Start, plan
from lightning_modules.loggers import OneWandbRun, _is_offline

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
SMALL = (
    *TINY,
    "data.simulation.n_particles=128",
    "trainer.accelerator=cpu",
    "logger=wandb",
    "+trainer.log_every_n_steps=4",
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_GROUP", "my_sweep")
    wandb.teardown()  # it reads the environment once, perhaps in a test of another file


def test_a_training_that_is_stopped_and_goes_on_is_one_run_with_steps_that_only_rise() -> None:
    assert train.main([*SMALL, "trainer.max_epochs=1"]) == 0
    folder = Path("runs/demo")
    noted = folder / "wandb.json"
    # as if the first part had been killed four steps after its last checkpoint
    first = json.loads(noted.read_text())
    noted.write_text(json.dumps(first | {"step": first["step"] + 4}))
    assert train.main([*SMALL, "trainer.max_epochs=2", "logger.wandb.artifacts=true"]) == 0
    before, after = offline_runs(folder)
    assert before.run_id == after.run_id == first["id"]
    assert before.group == "my_sweep"
    assert before.name == "demo"
    assert (before.exit_code, after.exit_code) == (0, 0)
    assert before.steps == sorted(before.steps)
    assert before.steps[-1] == 7  # eight steps, counted from 0
    assert after.steps == sorted(after.steps)
    assert after.steps[0] == 11
    assert sorted(after.artifacts) == ["model", "volumes"]
    _shows_panels(after)
    _is_recorded(before)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["wandb_run"] == first["id"]


def _shows_panels(run: OfflineRun) -> None:
    pictures = list(run.folder.glob("files/media/images/panels/*.png"))
    names = {path.name.split("_")[0] for path in pictures}
    assert {"volume", "motion", "poses", "latents", "likelihood", "suspicious"} <= names


def _is_recorded(run: OfflineRun) -> None:
    """Configuration, code, data and results."""
    assert run.config["data"]["batch_size"] == 16
    assert set(run.config["code"]) >= {"version"}
    assert len(run.config["data_fingerprint"]) == 16
    assert {"live/probe_explained_nats", "final/epochs", "train/loss"} <= set(run.summary)
    assert any(name.startswith("signals/") for name in run.summary)


def test_the_run_is_found_again_from_the_checkpoint_alone_and_a_new_start_is_a_new_run(
    tmp_path: Path,
) -> None:
    fresh = [OneWandbRun(tmp_path)._earlier()["id"] for _ in range(2)]
    assert fresh[0] != fresh[1]
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    torch.save({"wandb_run": "0123abcd"}, checkpoint)
    assert OneWandbRun(tmp_path)._earlier() == {"id": "0123abcd", "step": -1}
    (tmp_path / "wandb.json").write_text('{"id": "0123abcd", "step": 7}')
    assert OneWandbRun(tmp_path)._earlier() == {"id": "0123abcd", "step": 7}
    checkpoint.unlink()
    (tmp_path / "wandb.json").unlink()
    assert OneWandbRun(tmp_path)._earlier()["id"] != "0123abcd"


def test_a_run_that_was_stopped_before_its_first_checkpoint_stays_the_run_that_it_was() -> None:
    folder, noted = Path("runs/demo"), Path("runs/demo/wandb.json")
    config = check(compose([*SMALL]))
    assert plan(config) == Start()
    folder.mkdir(parents=True)
    begin(folder, config, plan(config))
    noted.write_text('{"id": "0123abcd", "step": 7}')
    (folder / "metrics.csv").write_text("epoch\n0\n")
    assert plan(config) == Start(over=True, again=True)
    begin(folder, config, plan(config))
    assert not (folder / "metrics.csv").exists()
    assert OneWandbRun(folder)._earlier() == {"id": "0123abcd", "step": 7}
    for other in ("resume=never", "model.beta=0.5"):
        noted.write_text('{"id": "0123abcd", "step": 7}')
        changed = check(compose([*SMALL, other]))
        assert plan(changed) == Start(over=True)
        begin(folder, changed, plan(changed))
        assert not noted.exists()


def test_nothing_is_sent_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _is_offline("auto")
    assert not _is_offline(False)
    login = tmp_path / ".netrc"
    login.write_text("machine api.wandb.ai login user password nothing\n")
    login.chmod(0o600)
    assert not _is_offline("auto")
    assert _is_offline(True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _is_offline(False)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path) -> None:
    overrides = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    command = [sys.executable, str(TRAIN), *SMALL, *overrides, "trainer.max_epochs=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    (run,) = offline_runs(tmp_path / "runs" / "demo")
    assert run.exit_code == 0
    assert run.summary["live/suspicious_particles"] >= 0
    assert run.steps == sorted(run.steps)
