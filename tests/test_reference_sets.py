"""Trainings on the simulated reference sets reach what the information in the images allows."""

import json
from pathlib import Path

import pytest

from cryoem.cli.main import main as cryoem
from train import main as train


def run_and_evaluate(data: Path, folder: Path, *overrides: str) -> dict:
    """Train with the defaults of ``train.py``, then ``cryoem evaluate``."""
    arguments = [f"data.particles={data / 'particles.star'}", f"output_dir={folder / 'run'}"]
    assert train([*arguments, "trainer.accelerator=cpu", *overrides]) == 0
    report = folder / "scores.json"
    assert (
        cryoem(["evaluate", f"{folder / 'run'}", "--truth", f"{data}", "--json", f"{report}"]) == 0
    )
    return json.loads(report.read_text())


def mean_fsc(scores: dict, volume: str, mask: str) -> float:
    return scores["volumes"]["summary"][volume][mask]["mean_fsc"]["mean"]


@pytest.mark.slow
def test_one_volume_is_as_good_as_back_projection(homog64, tmp_path):
    """Back-projection of the same images reaches 0.953, and 0.976 with a soft mask."""
    scores = run_and_evaluate(homog64, tmp_path, "model=homo", "trainer.max_epochs=5")
    assert mean_fsc(scores, "volume", "none") > 0.98 * 0.953
    assert mean_fsc(scores, "volume", "soft") > 0.98 * 0.976


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_swinging_arm_is_found_and_its_conformations_beat_the_consensus(hetero64, tmp_path, seed):
    """The noise-free mean of the truth, which no map from images can beat as one, has 0.857."""
    scores = run_and_evaluate(
        hetero64, tmp_path, "model=hetero", "trainer.max_epochs=5", f"seed={seed}"
    )
    assert scores["latents"]["knn_r2"] > 0.9
    assert mean_fsc(scores, "mean latent", "soft") > mean_fsc(scores, "consensus", "soft")
    assert mean_fsc(scores, "mean latent", "soft") > 0.9
