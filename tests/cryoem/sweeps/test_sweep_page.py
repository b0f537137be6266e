"""The page of a sweep: what it recommends, and the figures that the numbers allow."""

import json
from pathlib import Path

import numpy as np
import pytest

from cryoem.figures import parallel_coordinates, sweep_frequencies
from cryoem.figures.sweep import _heights
from cryoem.sweeps.importance import importances
from cryoem.sweeps.leaderboard import best, ranked
from cryoem.sweeps.objective import Objective, explained_up_to
from cryoem.sweeps.page import Outlook, write_sweep_page
from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, Point, Points
from cryoem.sweeps.space import Choices, Space

OBJECTIVE = Objective("held_out/explained_nats", "held_out_explained_nats")
SPACE: Space = {"model.latent_dim": Choices(("1", "2", "4")), "seed": Choices(("0", "1", "2"))}


def points(folder: Path) -> Points:
    """Nine: more dimensions explain more, the seed nothing; of the last only two epochs."""
    grid = [(dim, seed) for dim in "124" for seed in "012"]
    found = Points(folder / "points.json")
    for number, (dim, seed) in enumerate(grid, 1):
        nats = 10.0 * int(dim)
        found.all.append(
            Point(number, {"model.latent_dim": dim, "seed": seed}, FINISHED, nats, seconds=60.0)
        )
        run = folder / found.all[-1].name
        run.mkdir(parents=True)
        rows = [f"{epoch},{nats * (epoch + 1) / 4}" for epoch in range(4)]
        (run / "metrics.csv").write_text("\n".join(["epoch,held_out_explained_nats", *rows]) + "\n")
        explained = {"up_to_per_angstrom": [0.02, 0.04], "nats": [0.8 * nats, nats]}
        (run / "metrics.json").write_text(
            json.dumps({"held_out/explained_nats": nats, "held_out/explained": explained})
        )
    found.all[-1].state, found.all[-1].objective = PRUNED, 20.0
    (folder / "point_009" / "metrics.json").unlink()
    return found


def test_the_page_shows_what_the_numbers_allow_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    tried = points(tmp_path)
    write_sweep_page(tmp_path, SPACE, tried, OBJECTIVE, Outlook("python train.py ...", ["a note"]))
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"parallel", "importance", "frequencies", "course"}
    page = (tmp_path / "sweep.html").read_text()
    assert "8 finished, 1 pruned, 0 failed" in page
    assert "a note" in page
    assert 'src="http' not in page


def test_a_sweep_of_which_nothing_has_finished_has_a_page_without_figures(tmp_path: Path) -> None:
    tried = Points(tmp_path / "points.json", [Point(1, {"seed": "0"}, FAILED, error="no memory")])
    write_sweep_page(tmp_path, SPACE, tried, OBJECTIVE, Outlook(""))
    page = (tmp_path / "sweep.html").read_text()
    assert "No point has finished yet" in page
    assert "no memory" in page
    assert not (tmp_path / "figures").exists()


def test_what_the_objective_follows_is_what_matters(tmp_path: Path) -> None:
    done = points(tmp_path).in_state(FINISHED)
    shares = importances(SPACE, done)
    assert next(iter(shares)) == "model.latent_dim"
    assert shares["model.latent_dim"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(SPACE, done[:5]) == {}


def test_the_best_is_the_best_of_those_that_finished(tmp_path: Path) -> None:
    tried = points(tmp_path)
    assert best(tried, OBJECTIVE).name == "point_007"
    assert [point.number for point in ranked(tried, OBJECTIVE)] == [7, 8, 4, 5, 6, 1, 2, 3, 9]
    least = Objective("held_out/explained_nats", maximise=False)
    assert best(tried, least).name == "point_001"


def test_curves_by_frequency_begin_at_nothing_and_end_at_the_objective(tmp_path: Path) -> None:
    points(tmp_path)
    assert explained_up_to(tmp_path / "point_009") is None
    curve = explained_up_to(tmp_path / "point_007")
    assert curve is not None
    line = sweep_frequencies({"point_007": curve}, "point_007").axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[0, 0], [0.02, 32], [0.04, 40]])


def test_every_training_is_a_line_and_the_best_one_is_thick() -> None:
    table = {"model.latent_dim": ["1", "2", "4"], "model/decoder": ["grid", "mlp", "grid"]}
    axes = parallel_coordinates(table, [1.0, 3.0, 2.0], "nats", maximise=True).axes[0]
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths.count(3.2) == 1
    thick = next(line for line in axes.lines if line.get_linewidth() == 3.2)
    assert thick.get_ydata()[-1] == pytest.approx(1)  # its objective is at the top


def test_numbers_stand_where_their_size_puts_them_and_words_evenly() -> None:
    height, ticks = _heights(["1", "2", "4", "8", "2"])
    np.testing.assert_allclose(height, [0, 1 / 3, 2 / 3, 1, 1 / 3])
    assert list(ticks) == ["1", "2", "4", "8"]
    height, ticks = _heights(["1.3", "1.32", "2.3"])  # drawn from an interval
    np.testing.assert_allclose(height, [0, 0.02, 1])
    assert list(ticks) == ["1.3", "1.8", "2.3"]
    height, _ = _heights(["grid", "mlp", "grid"])
    np.testing.assert_allclose(height, [0, 1, 0])
    assert _heights(["3", "3"])[0].tolist() == [0.5, 0.5]
