import json

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoem.export_run import (
    resolution_entry,
    write_hetero_volumes,
    write_latents,
    write_metrics,
    write_series,
    write_volumes,
)
from cryoem.metrics.fsc import FSCCurve

VOLUMES = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
LATENTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def test_volumes_keep_their_names_values_and_voxel_size(tmp_path):
    write_volumes(tmp_path, {"volume": VOLUMES[0], "half1": VOLUMES[1]}, 3.25)
    with mrcfile.open(tmp_path / "volumes" / "half1.mrc") as file:
        np.testing.assert_array_equal(file.data, VOLUMES[1])
        assert float(file.voxel_size.x) == pytest.approx(3.25)
    script = (tmp_path / "volumes" / "open.cxc").read_text()
    assert "open volume.mrc" in script
    assert "vseries" not in script


def test_a_shorter_series_replaces_a_longer_one_and_leaves_other_files(tmp_path):
    write_hetero_volumes(tmp_path, VOLUMES, LATENTS, 2.0)
    (tmp_path / "volumes" / "mine.mrc").write_bytes(b"")
    write_hetero_volumes(tmp_path, VOLUMES[:2], LATENTS[:2], 2.0)
    names = sorted(path.name for path in (tmp_path / "volumes").iterdir())
    assert names == ["mine.mrc", "open.cxc", "volume_001.mrc", "volume_002.mrc", "volumes.csv"]
    script = (tmp_path / "volumes" / "open.cxc").read_text()
    assert "open volume_001.mrc volume_002.mrc vseries true" in script


def test_the_table_has_the_latent_of_each_volume(tmp_path):
    write_series(tmp_path, iter(VOLUMES), LATENTS, 2.0, particles=np.array([3, 1, 4, 1]))
    table = pd.read_csv(tmp_path / "volumes.csv")
    assert list(table.columns) == ["volume", "z1", "z2", "particle"]
    np.testing.assert_array_equal(table[["z1", "z2"]], LATENTS)
    assert list(table["volume"]) == [f"volume_{i:03d}.mrc" for i in range(1, 5)]


def test_latents_are_written_in_the_order_of_the_input_file(tmp_path):
    index = np.array([9, 2, 7, 4])
    write_latents(tmp_path, LATENTS.astype(np.float64), LATENTS + 0.5, index)
    with np.load(tmp_path / "latents.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["index"], [2, 4, 7, 9])
        np.testing.assert_array_equal(file["z"], LATENTS[[1, 3, 2, 0]])
        np.testing.assert_array_equal(file["z_std"], LATENTS[[1, 3, 2, 0]] + 0.5)
        assert file["z"].dtype == np.float32


def test_metrics_are_json_that_any_reader_accepts(tmp_path):
    curve = FSCCurve(np.arange(4) / 8, np.array([1, 0.1, 0.1, 0.1]))  # starts below: no resolution
    entry = resolution_entry(curve, 0.5, 2.0, "volume and truth", "none")
    write_metrics(tmp_path, {"resolution": [entry], "loss": {"kl_nats": np.float32(np.inf)}})
    content = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["resolution"][0]["angstrom"] is None
    assert content["resolution"][0]["threshold"] == 0.5
    assert content["loss"]["kl_nats"] is None
