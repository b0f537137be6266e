"""The schedule is a function of the step: marches, takes turns, and ends in refinement."""

from cryoem.poses.schedule import Phase, SearchSchedule


def _schedule(**changes: int) -> SearchSchedule:
    options = {"restarts": 2, "start_images": 1000, "batch_size": 10, "steps_per_epoch": 80}
    return SearchSchedule.of_run(radii=(4, 12, 30), **{**options, "n_epochs": 20, **changes})


def test_a_start_begins_with_poses_as_drawn_and_marches_outwards() -> None:
    schedule = _schedule()
    stages = [schedule.at(step) for step in range(schedule.start_steps)]
    assert [stage.phase for stage in stages[:3]] == [Phase.RANDOM, Phase.RANDOM, Phase.START]
    radii = [stage.radius for stage in stages]
    assert radii == sorted(radii)
    assert (radii[0], radii[-1]) == (4, 12)
    again = schedule.at(schedule.start_steps)
    assert (again.phase, again.radius, again.start) == (Phase.RANDOM, 4, 1)


def test_doubt_falls_along_the_march_and_is_gone_when_it_has_arrived() -> None:
    schedule = _schedule()
    starts = [schedule.at(step) for step in range(schedule.start_steps)]
    doubts = [stage.doubt for stage in starts]
    assert doubts[0] == 1
    assert doubts == sorted(doubts, reverse=True)
    assert {stage.radius for stage in starts if not stage.doubt} == {12}
    assert schedule.at(schedule.start_steps).doubt == 1
    assert not any(schedule.at(step).doubt for step in range(2 * schedule.start_steps, 1600))


def test_the_rest_of_the_epoch_in_which_the_starts_end_is_searched() -> None:
    schedule = _schedule()  # 200 steps of starts, epochs of 80
    assert schedule.first_epoch == 3
    assert {schedule.at(step).phase for step in range(200, 240)} == {Phase.SEARCH}
    assert schedule.at(200).radius == 12


def test_searches_and_fixed_poses_take_turns_up_to_the_last_radius_then_poses_are_refined() -> None:
    schedule = _schedule()
    stages = [schedule.at(80 * epoch) for epoch in range(3, 20)]
    phases = [stage.phase.value for stage in stages]
    n_searched = phases.index("refine")
    assert phases[:n_searched] == (["search", "fixed"] * 9)[:n_searched]
    assert set(phases[n_searched:]) == {"refine"}
    assert len(phases) - n_searched >= 5
    radii = [stage.radius for stage in stages]
    assert radii == sorted(radii)
    assert radii[-1] == 30
    assert [stage.n_searches for stage in stages[:4]] == [1, 1, 2, 2]


def test_all_of_an_epoch_is_one_stage() -> None:
    schedule = _schedule()
    for epoch in range(3, 20):
        assert schedule.at(80 * epoch) == schedule.at(80 * epoch + 79)


def test_starts_take_at_most_half_of_a_short_run() -> None:
    schedule = _schedule(n_epochs=4)
    assert schedule.restarts * schedule.start_steps == 160
    assert schedule.at(4 * 80 - 1).radius == 30


def test_with_a_volume_to_begin_with_the_first_step_is_a_search() -> None:
    schedule = _schedule(restarts=0)
    first = schedule.at(0)
    assert (first.phase, first.n_searches, first.doubt) == (Phase.SEARCH, 1, 0)
    assert 12 <= first.radius < 30
    assert schedule.at(80).phase is Phase.FIXED
    assert schedule.at(80 * 19).phase is Phase.REFINE
