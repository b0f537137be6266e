"""One process and two give the same run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def run(folder: Path, *overrides: str) -> Path:
    """Train in a process of its own, as a user does; its ranks find each other."""
    command = [sys.executable, str(TRAIN), *TINY, *overrides, f"output_dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("model", ["hetero", "homo"])
def test_two_processes_find_what_one_does(model: str, tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", f"model={model}")
    both = run(tmp_path / "both", f"model={model}", "trainer=ddp", "trainer.devices=2")
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (alone, both)
    ]
    for name, value in weights[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)
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
    search = (*clear, "poses=search", "poses.start_images=32", f"ckpt_path={known}")
    alone = run(tmp_path / "alone", *search)
    both = run(tmp_path / "both", *search, "trainer=ddp", "trainer.devices=2")
    poses = [load_run(folder).pose for folder in (alone, both)]
    angle = angle_between(poses[0].rotation, poses[1].rotation)
    assert angle.median() < 1
    assert (angle < 1).float().mean() > 0.8
