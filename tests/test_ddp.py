"""One process and several give the same run, and end it together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryoem.checkpoint import load_run
from cryoem.rotations import angle_between

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
TINY = (
    "data.simulation.n_particles=96",
    "data.simulation.box_size=16",
    "data.simulation.pixel_size_angstrom=14.0",
    "data.batch_size=16",
    "preflight=false",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "callbacks.export.n_volumes=2",
)


def start(folder: Path, *overrides: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Train in processes of their own, as a user does."""
    command = [sys.executable, *launcher, str(TRAIN), *TINY, *overrides, f"output_dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(folder: Path, *overrides: str) -> Path:
    """Train, and wait for the end; the ranks find each other."""
    process = start(folder, *overrides)
    errors = process.communicate(timeout=600)[1]
    assert process.returncode == 0, errors
    return folder


def weights(folder: Path) -> dict:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {key: v for key, v in checkpoint["state_dict"].items() if isinstance(v, torch.Tensor)}


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and losses are equal but for rounding."""
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-3, atol=1e-5)
    for column in ("loss_nats_per_frequency", "error_nats_per_frequency"):
        columns = [pd.read_csv(folder / "metrics.csv")[column] for folder in (one, other)]
        np.testing.assert_allclose(columns[1], columns[0], rtol=1e-4)


@pytest.mark.parametrize("model", ["hetero", "homo"])
def test_two_processes_find_what_one_does(model: str, tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", f"model={model}")
    both = run(tmp_path / "both", f"model={model}", "trainer=ddp", "trainer.devices=2")
    assert_same_run(alone, both)
    files = [sorted(p.name for p in folder.rglob("*") if p.is_file()) for folder in (alone, both)]
    assert files[0] == files[1]
    if model == "hetero":
        latents = [np.load(folder / "latents.npz")["z"] for folder in (alone, both)]
        np.testing.assert_allclose(latents[1], latents[0], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_two_processes_search_each_its_share_of_the_poses(tmp_path: Path) -> None:
    clear = ("model=homo", "data.simulation.snr=10")
    known = run(tmp_path / "known", *clear, "trainer.max_epochs=10")
    # from a volume that is right, or chance would decide and rounding make two runs of one
    search = (*clear, "poses=search", "poses.restarts=0", f"ckpt_path={known}")
    alone = run(tmp_path / "alone", *search)
    both = run(tmp_path / "both", *search, "trainer=ddp", "trainer.devices=2")
    poses = [load_run(folder).pose for folder in (alone, both)]
    angle = angle_between(poses[0].rotation, poses[1].rotation)
    assert angle.median() < 1
    assert (angle < 1).float().mean() > 0.8


@pytest.mark.slow
def test_three_processes_on_two_machines_find_what_one_does(tmp_path: Path) -> None:
    batches = "data.batch_size=24"
    alone = run(tmp_path / "alone", batches)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a launcher's machines have as many processes each, so these numbers are given
    where = ("trainer=multinode", "trainer.num_nodes=1", "trainer.devices=3", batches)
    machines = [
        start(
            tmp_path / "both", *where,
            launcher=(
                "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}",
                f"--nproc-per-node={2 - number}", "--master-addr=127.0.0.1",
                f"--master-port={port}",
            ),
        )
        for number in (0, 1)
    ]  # fmt: skip
    for machine in machines:
        errors = machine.communicate(timeout=600)[1]
        assert machine.returncode == 0, errors
    assert_same_run(alone, tmp_path / "both")
    log = (tmp_path / "both" / "run.log").read_text()
    assert log.count("writing volumes, figures and the report") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_is_named_and_the_same_command_goes_on(
    victim: int, tmp_path: Path
) -> None:
    two = ("trainer=ddp", "trainer.devices=2", "callbacks.rank_watch.patience_s=10")
    two += ("trainer.max_epochs=8", "callbacks.checkpoint.every_n_steps=1")
    whole = run(tmp_path / "whole", *two)
    folder = tmp_path / "killed"
    first = start(folder, *two)
    table = folder / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) < 3:
        time.sleep(0.05)
        assert first.poll() is None
    began = time.monotonic()
    os.kill(first.pid if victim == 0 else children(first.pid)[0], signal.SIGKILL)
    errors = first.communicate(timeout=120)[1]  # the pipe is closed when the last rank has ended
    assert time.monotonic() - began < 60
    assert f"rank {victim} (process " in errors, errors
    assert "is gone; the same command goes on" in errors
    if victim:
        assert first.returncode == 75
        assert "rank 1 (process " in (folder / "run.log").read_text()
    run(folder, *two)
    for name, value in weights(whole).items():
        assert torch.equal(weights(folder)[name], value), name
    one, other = (pd.read_csv(path / "metrics.csv") for path in (whole, folder))
    exact = ["epoch", "step", "loss_nats_per_frequency"]
    pd.testing.assert_frame_equal(one[exact], other[exact], check_exact=True)
    epochs = [json.loads((path / "metrics.json").read_text())["epochs"] for path in (whole, folder)]
    assert epochs == [8, 8]
