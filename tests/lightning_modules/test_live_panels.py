"""The live view on particles that are made to trigger its signals."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.encoders.posterior import LinearPosterior
from cryoem.io.mrc import read_mrc_header
from cryoem.io.volume import read_volume, write_stack
from cryoem.poses import KnownPoses, RefinedPoses, SearchedPoses
from cryoem.poses.searched import random_poses
from datamodules import SimulatedDataModule
from lightning_modules import HeteroReconstruction, HomoReconstruction
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks import LivePanels, MetricsTable, live_panels
from lightning_modules.live import findings

SIMULATION = {
    "motion": "linear_1d", "n_particles": 240, "box_size": 16, "pixel_size_angstrom": 15.0,
    "snr": 1.0, "shift_pixels": 0.0,
}  # fmt: skip


def _data(folder: Path, **simulation: Any) -> SimulatedDataModule:
    settings = {**SIMULATION, **simulation}
    data = SimulatedDataModule(folder / "data", settings, sign="light", batch_size=24)
    data.prepare_data()
    return data


def _model(data: SimulatedDataModule, kind: str, poses: Any = KnownPoses, **options: Any) -> Any:
    data.setup()
    torch.manual_seed(0)
    given = (data.geometry, poses(data.pose), data.data_scale)
    shared = {"decoder": FourierGrid, "amplitude": data.amplitude, **options}
    if kind == "homo":
        return HomoReconstruction(*given, **shared)
    return HeteroReconstruction(*given, encoder=LinearPosterior, latent_dim=2, **shared)


def _train(
    folder: Path, data: SimulatedDataModule, model: Reconstruction, epochs: int = 2, **options: Any
) -> LivePanels:
    live = options.pop("live", None) or LivePanels(folder)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
        callbacks=[MetricsTable(folder), live], log_every_n_steps=5, **{"logger": False, **options},
    )  # fmt: skip
    trainer.fit(model, data)
    return live


def _signals(folder: Path) -> dict[str, dict[str, str]]:
    return {s["name"]: s for s in json.loads((folder / "signals.json").read_text())}


def _change_images(data: SimulatedDataModule, change: Any) -> None:
    """Rewrite the stack; ``change`` maps images to images."""
    stack = data.folder / "particles.mrcs"
    size = read_mrc_header(stack).pixel_size_angstrom
    write_stack(stack, change(read_volume(stack)[0]).astype(np.float32), size)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on good particles, with pictures after every epoch, to TensorBoard too."""
    folder = tmp_path_factory.mktemp("good")
    data = _data(folder)
    logger = TensorBoardLogger(folder, name="tensorboard", version="")
    _train(
        folder,
        data,
        _model(data, "hetero"),
        epochs=2,
        logger=logger,
        live=LivePanels(folder, share=1e3),
    )
    return folder


def test_good_particles_raise_no_warning(good: Path) -> None:
    found = _signals(good)
    assert {s["name"] for s in found.values() if s["level"] == "warning"} == set()
    assert {"converged", "collapsed latent", "nuisance in the latent", "too noisy"} <= set(found)


def test_every_panel_is_a_picture_and_the_same_one_in_tensorboard(good: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    panels = {"volume", "motion", "poses", "latent_colours", "suspicious", "likelihood"}
    panels |= {"progress", "changes"}
    assert {path.stem for path in (good / "figures").glob("*.png")} == panels
    events = EventAccumulator(str(good / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert {f"panels/{name}" for name in panels} == set(events.Tags()["images"])
    sent = events.Images("panels/likelihood")
    assert [image.step for image in sent] == [9, 19]  # ten steps an epoch, counted from 0
    with Image.open(good / "figures" / "likelihood.png") as picture:
        assert picture.size == (sent[-1].width, sent[-1].height)
    assert "live/probe_explained_nats" in events.Tags()["scalars"]


def test_numbers_of_each_epoch_are_in_the_table(good: Path) -> None:
    table = pd.read_csv(good / "metrics.csv")
    rows = table[table["probe_explained_nats"].notna()]
    assert rows["epoch"].tolist() == [0, 1]
    assert (rows["probe_explained_nats"] > 5).all()
    assert (rows["epoch_images_per_s"] > 0).all()
    assert rows["data_wait_share"].between(0, 1).all()
    assert rows["latents_change"].isna().tolist() == [True, False]


def test_pure_noise_is_too_noisy_and_has_no_latents(tmp_path: Path) -> None:
    data = _data(tmp_path, snr=1e-6)
    _train(tmp_path, data, _model(data, "hetero"))
    found = _signals(tmp_path)
    assert found["too noisy"]["level"] == "warning"
    assert found["collapsed latent"]["level"] == "warning"


def test_a_volume_is_not_judged_while_a_search_turns_the_poses_over(tmp_path: Path) -> None:
    model = _model(_data(tmp_path), "homo", SearchedPoses)
    assert findings._is_without_basin(model)
    n = model.geometry.n_particles
    first, other = random_poses(n, 0), random_poses(n, 1)
    for pose, without in ((first, True), (other, True), (other, False)):
        model.poses.write(torch.arange(n), pose, torch.zeros(n), torch.zeros(n))
        assert findings._is_without_basin(model) == without


def test_half_sets_are_tried_on_each_other_so_noise_explains_nothing(tmp_path: Path) -> None:
    data = _data(tmp_path, snr=1e-6)
    live = _train(tmp_path, data, _model(data, "homo"))
    assert _signals(tmp_path)["too noisy"]["level"] == "warning"
    last = live.state_dict()["history"][-1]
    assert abs(last["numbers"]["probe_explained_nats"]) < 0.5


def test_a_large_beta_collapses_the_latent(tmp_path: Path) -> None:
    data = _data(tmp_path)
    _train(tmp_path, data, _model(data, "hetero", beta=1e4))
    found = _signals(tmp_path)
    assert found["collapsed latent"]["level"] == "warning"
    assert found["too noisy"]["level"] == "good"


def test_contrast_that_goes_with_the_defocus_is_a_nuisance(tmp_path: Path) -> None:
    data = _data(tmp_path)
    data.setup()
    assert data.table.ctf is not None
    rank = data.table.ctf.defocus_u_angstrom.argsort().argsort().numpy() / len(data.table)
    _change_images(data, lambda images: images * (0.2 + 2 * rank[:, None, None]))
    fresh = SimulatedDataModule(data.folder, SIMULATION, sign="light", batch_size=24)
    _train(tmp_path, fresh, _model(fresh, "hetero"))
    signal = _signals(tmp_path)["nuisance in the latent"]
    assert signal["level"] == "warning"
    assert "defocus" in signal["text"]


def test_junk_is_listed_with_its_rows(tmp_path: Path) -> None:
    junk = [3, 50, 201]

    def spoil(images: np.ndarray) -> np.ndarray:
        images[junk] += 6 * images.std() * np.sign(np.arange(16) % 8 - 3.5)
        return images

    data = _data(tmp_path)
    _change_images(data, spoil)
    _train(tmp_path, data, _model(data, "homo"))
    assert set(pd.read_csv(tmp_path / "suspicious.csv")["particle"]) >= set(junk)
    assert len(pd.read_csv(tmp_path / "suspicious.csv")) < 10
    assert "3 of 240" in _signals(tmp_path)["suspicious particles"]["text"]


def test_poses_that_are_right_converge(tmp_path: Path) -> None:
    data = _data(tmp_path, snr=10.0)
    poses = partial(RefinedPoses, lr_rotation_degrees=0.01, lr_shift_pixels=0.001, start_epoch=0)
    _train(tmp_path, data, _model(data, "homo", poses), epochs=6)
    signal = _signals(tmp_path)["converged"]
    assert signal["level"] == "good", signal["text"]
    assert "poses have turned" in signal["text"]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    data = _data(tmp_path)
    weights = []
    for share in (0.0, 1e3):
        pl.seed_everything(0, verbose=False)
        model = _model(data, "hetero")
        _train(tmp_path, data, model, epochs=2, live=LivePanels(tmp_path, share))
        weights.append(model.state_dict())
        weights.append({"random": torch.rand(3)})
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=0)
    assert torch.equal(weights[1]["random"], weights[3]["random"])


def test_pictures_wait_until_there_is_time_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(
        live_panels, "show", lambda drawn, folder, loggers, step: steps.append(step)
    )
    data = _data(tmp_path)
    _train(tmp_path, data, _model(data, "homo"), live=LivePanels(tmp_path, share=1e-6))
    assert steps == [19]  # after the second of two epochs, in any case
