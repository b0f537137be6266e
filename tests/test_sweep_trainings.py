"""A sweep of real trainings, several devices in each."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = Path(__file__).resolve().parents[1] / "sweep.py"
TINY = (
    "data.simulation.n_particles=96",
    "data.simulation.box_size=16",
    "data.simulation.pixel_size_angstrom=14.0",
    "data.batch_size=16",
    "preflight=false",
    "trainer.max_epochs=2",
    "callbacks.export.n_volumes=2",
)


@pytest.mark.slow
def test_points_of_two_processes_each_run_beside_each_other(tmp_path: Path) -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    command = [sys.executable, str(SWEEP), *TINY, *ddp, "model.latent_dim=1,2", "name=both"]
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
