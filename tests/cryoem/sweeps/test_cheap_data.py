"""A cheap version of the data for a sweep, and how long the dear one will take."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from phantom_particles import write_phantom_particles

from cryoem.io.source import open_particles
from cryoem.sweeps.subset import cheap_data
from cryoem.sweeps.timing import expected_time, timing_overrides

FILES = {
    "root": None, "passthrough": None, "poses": None, "ctf": None, "select": None,
    "pixel_size": None, "box_size": None, "batch_size": 2,
}  # fmt: skip


def test_particles_are_drawn_at_random_and_the_same_ones_again(tmp_path: Path) -> None:
    data = FILES | {"particles": str(write_phantom_particles(tmp_path, n=60).star)}
    found, n = cheap_data(data, 20, 8, tmp_path / "subset.npy")
    assert n == 60
    assert found == {"data.select": str(tmp_path / "subset.npy"), "data.box_size": "8"}
    rows = np.load(tmp_path / "subset.npy")
    assert len(set(rows.tolist())) == 20
    assert rows.max() > 30  # not the first ones
    again, _ = cheap_data(data, 20, 8, tmp_path / "again.npy")
    assert np.array_equal(np.load(again["data.select"]), rows)
    table = open_particles(data["particles"], select=found["data.select"]).table
    assert np.array_equal(table.row, rows)


def test_a_subset_of_chosen_rows_is_of_those(tmp_path: Path) -> None:
    chosen = np.arange(1, 60, 2)
    np.save(tmp_path / "chosen.npy", chosen)
    star = write_phantom_particles(tmp_path, n=60).star
    data = FILES | {"particles": str(star), "select": str(tmp_path / "chosen.npy")}
    _, n = cheap_data(data, 10, None, tmp_path / "subset.npy")
    assert n == 30
    assert set(np.load(tmp_path / "subset.npy")) <= set(chosen)


def test_what_is_small_already_stays(tmp_path: Path) -> None:
    data = FILES | {"particles": str(write_phantom_particles(tmp_path, n=30).star)}
    assert cheap_data(data, 30, 16, tmp_path / "subset.npy") == ({}, 30)
    assert cheap_data(data | {"box_size": 8}, 30, 12, tmp_path / "subset.npy") == ({}, 30)
    simulation = {"simulation": {"n_particles": 500, "box_size": 64}, "box_size": None}
    found, n = cheap_data(simulation, 100, 48, tmp_path / "subset.npy")
    assert (found, n) == ({"data.simulation.n_particles": "100", "data.box_size": "48"}, 500)
    assert not (tmp_path / "subset.npy").exists()


def test_a_timing_has_twenty_batches_of_full_size(tmp_path: Path) -> None:
    data = FILES | {"particles": str(write_phantom_particles(tmp_path, n=60).star)}
    found = timing_overrides(data, tmp_path / "timing.npy")
    assert len(np.load(found["data.select"])) == 40
    assert "data.box_size" not in found
    assert found["trainer.max_epochs"] == "1"


@pytest.mark.parametrize(
    ("n_particles", "epochs", "words"),
    [(400, 5, "20 seconds"), (60_000, 5, "50 minutes"), (720_000, 5, "10.0 hours")],
)
def test_the_time_is_images_over_the_speed_after_the_first_batches(
    tmp_path: Path, n_particles: int, epochs: int, words: str
) -> None:
    # the first line counts the start of everything
    rates = [3.0, 100.0, 90.0, 110.0, None]
    pd.DataFrame({"images_per_s": rates}).to_csv(tmp_path / "metrics.csv", index=False)
    assert f"about {words} of training" in expected_time(tmp_path, n_particles, epochs)


def test_without_a_measurement_no_time_is_made_up(tmp_path: Path) -> None:
    assert "could not be measured" in expected_time(tmp_path, 100, 1)
