"""A finished run leaves everything that was promised, with the right voxel size and order."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from cryoem.checkpoint import load_run
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.encoders.posterior import LinearPosterior
from cryoem.io.source import open_particles
from cryoem.io.volume import read_volume
from cryoem.poses import KnownPoses, RefinedPoses
from cryoem.rotations import angle_between
from datamodules import SimulatedDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.callbacks import ExportRun, LastCheckpoint, MetricsTable

SIMULATION = {
    "motion": "linear_1d", "n_particles": 300, "box_size": 24, "pixel_size_angstrom": 12.0,
    "snr": 1.0, "shift_pixels": 1.0,
}  # fmt: skip


def _train(
    folder: Path, kind: str, poses: Any = KnownPoses, epochs: int = 4
) -> SimulatedDataModule:
    pl.seed_everything(0, verbose=False)
    data = SimulatedDataModule(
        folder / "data", SIMULATION, sign="light", box_size=20, batch_size=20
    )
    data.prepare_data()
    data.setup()
    shared = {"decoder": FourierGrid, "amplitude": data.amplitude}
    arguments = (data.geometry, poses(data.pose), data.data_scale)
    if kind == "homo":
        model: Any = HomoReconstruction(*arguments, **shared)
    else:
        model = HeteroReconstruction(*arguments, encoder=LinearPosterior, latent_dim=2, **shared)
    callbacks = [MetricsTable(folder), LastCheckpoint(folder), ExportRun(folder, n_volumes=3)]
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    return data


@pytest.fixture(scope="module")
def hetero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hetero")
    _train(folder, "hetero")
    return folder


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_heterogeneous_run_leaves_what_was_promised(hetero: Path) -> None:
    assert {
        "volumes/volume_001.mrc", "volumes/volume_003.mrc", "volumes/volumes.csv", "latents.npz",
        "particles.star", "metrics.json", "metrics.csv", "report.html", "data.json",
        "checkpoints/last.ckpt", "figures/motion.png", "figures/latents.png", "figures/fsc.png",
    } <= _files(hetero)  # fmt: skip
    assert not [name for name in _files(hetero) if Path(name).name.startswith(".")]
    volume, voxel_size = read_volume(hetero / "volumes" / "volume_002.mrc")
    assert volume.shape == (20, 20, 20)
    assert voxel_size == pytest.approx(12.0 * 24 / 20, rel=1e-4)
    assert len(pd.read_csv(hetero / "volumes" / "volumes.csv")) == 3


def test_latents_follow_the_input_file_and_know_the_motion(hetero: Path) -> None:
    with np.load(hetero / "latents.npz") as latents:
        assert latents["z"].shape == latents["z_std"].shape == (300, 2)
        assert latents["index"].tolist() == list(range(300))
        coordinate = pd.read_csv(hetero / "data" / "truth" / "labels.csv")["coordinate"]
        best = max(abs(np.corrcoef(column, coordinate)[0, 1]) for column in latents["z"].T)
    metrics = json.loads((hetero / "metrics.json").read_text())
    assert metrics["epochs"] == 4
    assert best > 0.7
    assert metrics["latent_r2_of_coordinate"] > 0.5
    assert metrics["mean_fsc_of_conformations"] > 0.7


def test_a_finished_run_is_loaded_with_its_latents(hetero: Path) -> None:
    run = load_run(hetero)
    assert run.latent_mean is not None
    assert run.latent_mean.shape == (300, 2)
    assert run.kind == "hetero"


def test_a_run_that_was_stopped_before_its_export_is_exported_by_the_same_command(
    hetero: Path,
) -> None:
    before = read_volume(hetero / "volumes" / "volume_001.mrc")[0]
    for name in ("metrics.json", "latents.npz", "volumes/volume_001.mrc"):
        (hetero / name).unlink()
    _train(hetero, "hetero")
    after = read_volume(hetero / "volumes" / "volume_001.mrc")[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert json.loads((hetero / "metrics.json").read_text())["epochs"] == 4


def test_a_homogeneous_run_leaves_half_maps_their_mean_and_refined_poses(tmp_path: Path) -> None:
    data = _train(tmp_path, "homo", partial(RefinedPoses, start_epoch=1), epochs=2)
    names = ("volume", "half1", "half2")
    volume, half1, half2 = (read_volume(tmp_path / "volumes" / f"{n}.mrc")[0] for n in names)
    np.testing.assert_allclose(volume, (half1 + half2) / 2, atol=1e-4)
    assert volume[8:12, 8:12, 8:12].mean() > volume.mean()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    compared = [(e["between"], e["mask"], e["threshold"]) for e in metrics["resolution"]]
    assert ("half-set volumes", "none", 0.143) in compared
    assert ("volume and truth", "none", 0.5) in compared
    # written in pixels of the file: read again, they are the run's
    written = open_particles(tmp_path / "particles.star", root=tmp_path / "data").table.pose
    run = load_run(tmp_path)
    assert angle_between(written.rotation, run.pose.rotation).max() < 0.01
    torch.testing.assert_close(written.shift * 20 / 24, run.pose.shift, atol=1e-3, rtol=0)
    assert not torch.equal(run.pose.shift, data.pose.shift)


def test_another_simulation_does_not_silently_replace_the_one_in_the_folder(hetero: Path) -> None:
    from cryoem.errors import InputError

    other = SimulatedDataModule(hetero / "data", {**SIMULATION, "snr": 0.5})
    with pytest.raises(InputError, match=r"snr=1\.0, not 0\.5"):
        other.prepare_data()
