"""What a run does before its first epoch."""

import logging
from pathlib import Path

import pytest
import torch
from phantom_particles import write_phantom_particles

import train
from cryoem.io.volume import write_stack

TINY = (
    "data.batch_size=50",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "callbacks.export.n_volumes=2",
    "output_dir=run",
)


@pytest.fixture
def particles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write_phantom_particles(tmp_path, n=200)
    return "data.particles=particles.star"


def weights(run: str) -> dict[str, torch.Tensor]:
    state = torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if not key.startswith("poses.")}


@pytest.mark.parametrize("model", ["homo", "hetero"])
def test_a_fresh_run_begins_with_the_page_and_learns_the_same(
    model: str, particles: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert train.main([particles, f"model={model}", *TINY]) == 0
    page = Path("run/preflight.html").read_text()
    for row in ("Memory in a training step", "Time in all", "To read", "Disk for results"):
        assert row in page
    assert "The poses fit the images" in caplog.text
    other = ["output_dir=without", "preflight=false"]
    assert train.main([particles, f"model={model}", *TINY, *other]) == 0
    assert not Path("without/preflight.html").exists()
    with_it, without = weights("run"), weights("without")
    for key, value in with_it.items():
        torch.testing.assert_close(value, without[key], rtol=0, atol=0)


def test_preflight_alone_writes_the_page_and_a_run_can_follow(particles: str) -> None:
    assert train.main([particles, *TINY, "preflight=only"]) == 0
    assert {path.name for path in Path("run").iterdir()} == {"preflight.html", "run.log"}
    assert train.main([particles, *TINY, "preflight=false"]) == 0
    assert Path("run/checkpoints/last.ckpt").exists()


def test_a_run_that_goes_on_is_not_checked_again(particles: str) -> None:
    assert train.main([particles, *TINY, "preflight=false"]) == 0
    assert train.main([particles, *TINY, "trainer.max_epochs=2"]) == 0
    assert not Path("run/preflight.html").exists()


def test_a_contradiction_stops_the_run_and_leaves_the_evidence(
    particles: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([particles, *TINY, "data.sign=dark"]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 2
    assert "data.sign=dark, but the particles are light" in message
    assert "run/preflight.html; preflight=false runs all the same" in message
    assert {path.name for path in Path("run").iterdir()} == {"preflight.html", "run.log"}


def test_a_refused_new_start_keeps_the_earlier_run(particles: str) -> None:
    assert train.main([particles, *TINY, "preflight=false"]) == 0
    assert train.main([particles, *TINY, "resume=never", "data.sign=dark"]) == 2
    assert Path("run/checkpoints/last.ckpt").exists()


def test_a_search_for_poses_is_planned_and_poses_in_the_file_are_not_tried(
    particles: str,
) -> None:
    assert train.main([particles, "model=homo", "poses=search", *TINY, "preflight=only"]) == 0
    page = Path("run/preflight.html").read_text()
    assert "Memory in a search for poses" in page
    assert "There are no poses" in page


def test_dark_particles_without_poses_are_found_to_be_dark(
    particles: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    images = -write_phantom_particles(tmp_path, n=200).images
    write_stack(tmp_path / "particles.mrcs", images.numpy(), 3.0)
    assert train.main([particles, "model=homo", "poses=search", *TINY, "preflight=only"]) == 0
    assert "data.sign=auto: dark particles" in caplog.text


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_another_word_is_refused(
    value: str, particles: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([particles, f"preflight={value}"]) == 2
    assert "must be one of true, false, only" in capsys.readouterr().err
