"""Sweeps: every combination once, ranked, and going on where they stopped."""

import csv
import json
import subprocess
from pathlib import Path

import pytest

import sweep


def test_points_are_all_combinations_in_the_order_of_the_keys() -> None:
    assert sweep.points(["model.beta=0.1,1", "seed=range(1,3)", "name=x"]) == [
        {"model.beta": "0.1", "seed": "1", "name": "x"},
        {"model.beta": "0.1", "seed": "2", "name": "x"},
        {"model.beta": "1", "seed": "1", "name": "x"},
        {"model.beta": "1", "seed": "2", "name": "x"},
    ]


def test_a_list_is_one_value() -> None:
    assert sweep.points(["data.window=[0.8,0.9]"]) == [{"data.window": "[0.8,0.9]"}]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand-in for the processes: the commands, with the latent dimension as their loss."""
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command[2:])
        keys = dict(part.split("=", 1) for part in command[2:])
        folder = Path(keys["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        loss = -float(keys["model.latent_dim"])
        (folder / "metrics.json").write_text(json.dumps({"loss": loss, "resolution": [1]}))
        (folder / "config.yaml").write_text(keys["model.latent_dim"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_a_sweep_ranks_its_points(trained: list[list[str]]) -> None:
    assert sweep.main(["hparams=latent_dim", "seed=3", "name=dims", "objective=loss"]) == 0
    assert [c[0] for c in trained] == [f"model.latent_dim={n}" for n in (2, 4, 8)]
    assert all("seed=3" in command for command in trained)
    assert "output_dir=sweeps/dims/point_001" in trained[0]
    with open("sweeps/dims/leaderboard.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["model.latent_dim"] for row in rows] == ["8", "4", "2"]
    assert "resolution" not in rows[0]
    assert Path("sweeps/dims/best.yaml").read_text() == "8"


def test_an_unknown_objective_names_the_metrics(
    trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["hparams=latent_dim", "objective=beauty"]) == 2
    assert "loss" in capsys.readouterr().err


def test_no_point_runs_if_one_is_wrong(
    trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["model.latent_dim=2,two"]) == 2
    assert "model.latent_dim=two" in capsys.readouterr().err
    assert not trained
    assert not Path("sweeps").exists()
