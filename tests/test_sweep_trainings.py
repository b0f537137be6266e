"""Sweeps of real trainings: several devices in each, W&B, and a kill on the way."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import TINY
from wandb_files import offline_runs

SWEEP = Path(__file__).resolve().parents[1] / "sweep.py"
SMALL = (*TINY, "data.simulation.n_particles=96", "trainer.max_epochs=2")


@pytest.mark.slow
def test_points_of_two_processes_each_run_beside_each_other(tmp_path: Path) -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    command = [sys.executable, str(SWEEP), *SMALL, *ddp, "model.latent_dim=1,2", "name=both"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "cluster.parallel=2"], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "sweeps" / "both"
    with (folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    for row in rows:
        assert "MEMBER: 1/2" in (folder / row["point"] / "run.log").read_text()
        assert (folder / row["point"] / "report.html").is_file()
    assert (folder / "best.yaml").is_file()


@pytest.mark.slow
def test_each_point_is_one_wandb_run_of_the_sweep_also_after_a_kill(tmp_path: Path) -> None:
    command = [
        sys.executable, str(SWEEP), *SMALL, "trainer.max_epochs=6", "model.latent_dim=1,2",
        "name=dims", "logger=wandb", "logger.wandb.offline=true", "cluster.parallel=2",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "sweeps" / "dims"
    with (tmp_path / "first.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + 600
        while not list(folder.glob("point_*/checkpoints/last.ckpt")):
            assert process.poll() is None, (tmp_path / "first.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert [row["epochs"] for row in rows] == ["6", "6"]
    ids, n_parts = set(), []
    for row in rows:
        parts = offline_runs(folder / row["point"])
        n_parts.append(len(parts))
        assert {part.group for part in parts} == {"dims"}
        assert len({part.run_id for part in parts}) == 1
        steps = [step for part in parts for step in part.steps]
        assert steps == sorted(steps)
        assert parts[-1].summary["final/epochs"] == 6
        assert parts[-1].exit_code == 0
        ids.add(parts[0].run_id)
    assert len(ids) == 2
    assert max(n_parts) == 2  # at least one was under way
