"""Compiled networks learn what plain ones learn, under the same names."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cryoem.checkpoint import read_checkpoint

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
TINY = (
    "preflight=false",
    "data.simulation.n_particles=40",  # the last batch is smaller
    "data.simulation.box_size=16",
    "data.simulation.pixel_size_angstrom=14",
    "data.batch_size=16",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "model=hetero",
    "model.latent_dim=2",
    "model.decoder.width=16",
    "~callbacks.export",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "networks",
    [
        ("model/decoder=fourier_mlp", "model/encoder=mlp"),
        ("model/decoder=fourier_mlp_basis", "model/encoder=posterior"),
    ],
)
def test_compiled_networks_learn_the_same(networks: tuple[str, ...], tmp_path: Path) -> None:
    weights = []
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        words = (*networks, *TINY, f"trainer.compile={compiled}", f"output_dir={folder}")
        # a process of its own: the types that tests check confuse the compiler
        subprocess.run([sys.executable, TRAIN, *words], check=True)
        weights.append(read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    for name, plain in weights[0].items():
        torch.testing.assert_close(weights[1][name], plain, rtol=1e-3, atol=1e-4)
