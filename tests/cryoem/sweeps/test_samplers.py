"""Proposals: all of a grid, or Optuna's, which go on after an interruption and learn."""

from pathlib import Path

import pytest

from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, Point
from cryoem.sweeps.samplers import Grid, Optuna
from cryoem.sweeps.space import Choices, Interval, Space, corners, grid

SPACE: Space = {
    "x": Interval(-3.0, 3.0),
    "n": Interval(1.0, 4.0, whole=True),
    "kind": Choices(("a", "b")),
}

# Optuna says so of constant_liar
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")


def sampler(folder: Path, kind: str = "tpe", trials: int = 30, **options: bool) -> Optuna:
    settings = {"maximise": True, "prune": True, **options}
    return Optuna(folder / "journal", SPACE, kind, trials, **settings)


def height(values: dict[str, str]) -> float:
    """Highest at x = 1 and kind b."""
    return (values["kind"] == "b") - (float(values["x"]) - 1) ** 2


def test_a_grid_has_every_combination_in_the_order_of_its_keys() -> None:
    space: Space = {"a": Choices(("1", "2")), "b": Choices(("u", "v", "w"))}
    proposed = [Grid(space).ask(number) for number in range(1, 8)]
    assert proposed[:6] == grid(space)
    assert proposed[0] == {"a": "1", "b": "u"}
    assert proposed[5] == {"a": "2", "b": "w"}
    assert proposed[6] is None
    with pytest.raises(ValueError, match="x: a grid needs single values"):
        Grid(SPACE)


def test_corners_are_the_ends_of_every_axis() -> None:
    assert corners(SPACE) == [
        {"x": "-3", "n": "1", "kind": "a"},
        {"x": "3", "n": "4", "kind": "b"},
    ]


def test_proposals_stay_in_the_space_and_end_with_the_trials(tmp_path: Path) -> None:
    random = sampler(tmp_path, "random", trials=12)
    for number in range(1, 13):
        values = random.ask(number)
        assert values is not None
        assert -3 <= float(values["x"]) <= 3
        assert values["n"] in ("1", "2", "3", "4")
        assert values["kind"] in ("a", "b")
    assert random.ask(13) is None


def test_later_proposals_are_better_than_early_ones(tmp_path: Path) -> None:
    tpe = sampler(tmp_path)
    heights = []
    for number in range(1, 31):
        values = tpe.ask(number)
        assert values is not None
        heights.append(height(values))
        tpe.tell(Point(number, values, FINISHED, heights[-1]))
    assert sum(heights[-10:]) > sum(heights[:10])
    assert max(heights) > 0.7


def test_a_sampler_that_goes_on_repeats_what_it_was_asked_and_knows_what_it_was_told(
    tmp_path: Path,
) -> None:
    before = sampler(tmp_path)
    asked = [before.ask(number) for number in range(1, 7)]
    for number, values in enumerate(asked[:4], 1):
        assert values is not None
        before.tell(Point(number, values, FINISHED, height(values)))
    after = sampler(tmp_path)
    assert [after.ask(number) for number in range(1, 7)] == asked
    assert after.ask(7) not in asked
    for number, values in enumerate(asked, 1):  # again, and the rest
        assert values is not None
        after.tell(Point(number, values, FAILED if number == 6 else FINISHED, height(values)))
    states = [trial.state.name for trial in after.study.trials]
    assert states == [*["COMPLETE"] * 5, "FAIL", "RUNNING"]


def test_no_point_is_proposed_twice_as_long_as_others_are_left(tmp_path: Path) -> None:
    few: Space = {"a": Choices(("1", "2", "3")), "b": Choices(("u", "v"))}
    tpe = Optuna(tmp_path / "journal", few, "tpe", 6, maximise=True, prune=False)
    seen = []
    for number in range(1, 7):
        values = tpe.ask(number)
        assert values is not None
        seen.append(tuple(values.values()))
        tpe.tell(Point(number, values, FINISHED, float(values["a"])))
    assert len(set(seen)) == 6


def test_a_point_below_the_median_is_hopeless_once_others_have_ended(tmp_path: Path) -> None:
    tpe = sampler(tmp_path)
    rising = {epoch: float(epoch) for epoch in range(6)}
    for number in range(1, 5):
        values = tpe.ask(number)
        assert values is not None
        assert not tpe.is_hopeless(number, rising)
        tpe.tell(Point(number, values, FINISHED, 5.0))
    assert tpe.ask(5) is not None
    flat = dict.fromkeys(range(4), 0.1)
    assert not tpe.is_hopeless(5, {0: 0.1})  # too early to say
    assert tpe.is_hopeless(5, flat)
    tpe.tell(Point(5, {}, PRUNED, 0.1))
    assert tpe.study.trials[4].state.name == "PRUNED"
    assert tpe.ask(6) is not None
    assert not tpe.is_hopeless(6, dict.fromkeys(range(4), 9.0))
