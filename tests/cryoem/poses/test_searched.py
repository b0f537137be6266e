"""The table of poses that were found."""

import copy

import torch

from cryoem.batch import Pose
from cryoem.grids import symmetry_group
from cryoem.poses import PoseProvider, SearchedPoses
from cryoem.poses.searched import random_poses
from cryoem.rotations import angle_between, small_rotation


def _write(
    poses: SearchedPoses,
    index: torch.Tensor,
    rotation: torch.Tensor,
    error: torch.Tensor | None = None,
    margin: float = 5.0,
) -> None:
    n = len(rotation)
    error = torch.ones(n) if error is None else error
    poses.write(index, Pose(rotation.float(), torch.ones(n, 2)), error, torch.full((n,), margin))


def _turned(rotation: torch.Tensor, degrees: float) -> torch.Tensor:
    axis = torch.tensor([0.0, 0.6, 0.8]).expand(len(rotation), 3)
    return small_rotation(torch.deg2rad(torch.tensor(degrees)) * axis).to(rotation.dtype) @ rotation


def test_it_is_a_pose_provider_that_gives_back_what_was_written() -> None:
    poses = SearchedPoses(random_poses(20, seed=1))
    assert isinstance(poses, PoseProvider)
    index = torch.tensor([7, 3])
    rotation = random_poses(2, seed=2).rotation.float()
    _write(poses, index, rotation, margin=2.5)
    torch.testing.assert_close(poses(index).rotation, rotation)
    assert poses.table().shift[[7, 3, 0]].tolist() == [[1, 1], [1, 1], [0, 0]]
    assert poses.margin()[[7, 3]].tolist() == [2.5, 2.5]
    assert poses.margin()[0].isnan()
    _write(poses, torch.tensor([7, 0]), rotation, margin=torch.inf)  # without a look at rivals
    assert poses.margin()[7] == 2.5
    assert poses.margin()[0].isnan()


def test_held_out_particles_have_no_weight_until_all_are_to_train() -> None:
    poses = SearchedPoses(random_poses(100, seed=1), held_out=0.1)
    poses.begin(train_on_all=False)
    weights = poses.weights(torch.arange(100))
    assert int((weights == 0).sum()) == 10
    assert weights[poses.held_out].sum() == 0
    poses.begin(train_on_all=True)
    assert poses.weights(torch.arange(100)).sum() == 100


def test_no_gradient_moves_poses() -> None:
    poses = SearchedPoses(random_poses(4, seed=1)).train()
    assert not poses(torch.arange(4)).rotation.requires_grad


def test_settled_is_who_hardly_moved_and_fits_but_every_tenth_in_turn() -> None:
    n = 40
    poses = SearchedPoses(random_poses(n, seed=1))
    index = torch.arange(n)
    before = poses.table().rotation
    degrees = torch.where(index < 20, 1.0, 20.0)
    moved = torch.cat([_turned(before[:20], 1.0), _turned(before[20:], 20.0)])
    _write(poses, index, moved, error=1 + 0.01 * index)  # the last four are the worst tenth
    torch.testing.assert_close(poses.moved_degrees(), degrees, rtol=0, atol=1e-2)
    settled = poses.settled(index, degrees=5.0, turn=3)
    assert settled.nonzero()[:, 0].tolist() == [i for i in range(20) if i % 10 != 3]
    settled = poses.settled(index, degrees=50.0, turn=3)
    assert settled.nonzero()[:, 0].tolist() == [i for i in range(36) if i % 10 != 3]


def test_a_move_to_a_symmetry_mate_is_no_move() -> None:
    group = symmetry_group("C4").float()
    poses = SearchedPoses(random_poses(5, seed=1), symmetry="C4")
    mates = poses.table().rotation @ group[2]
    _write(poses, torch.arange(5), mates)
    assert poses.moved_degrees().max() < 0.1


def test_in_training_a_pose_is_one_of_its_symmetry_mates_and_all_occur() -> None:
    torch.manual_seed(0)
    poses = SearchedPoses(random_poses(1, seed=1), symmetry="D2").train()
    index = torch.zeros(200, dtype=torch.int64)
    mates = poses.table().rotation @ symmetry_group("D2").float()
    drawn = poses(index).rotation[:, None].expand(-1, 4, -1, -1)
    angle = angle_between(drawn, mates.expand_as(drawn))
    nearest = angle.min(1)
    assert nearest.values.max() < 0.1
    assert nearest.indices.unique().tolist() == [0, 1, 2, 3]
    assert angle_between(poses.eval()(index[:1]).rotation, mates[:1]).max() < 0.1


def test_forgetting_draws_other_poses_and_unlearns_what_was_known() -> None:
    poses = SearchedPoses(random_poses(6, seed=1))
    index = torch.arange(6)
    _write(poses, index, poses.table().rotation)
    before = poses.table().rotation
    poses.forget(seed=9)
    assert angle_between(poses.table().rotation, before).min() > 1
    assert poses.moved_degrees().isinf().all()
    assert poses.table().shift.abs().max() == 0


def test_going_back_keeps_those_who_had_not_been_searched_then() -> None:
    poses = SearchedPoses(random_poses(6, seed=1))
    first, rest = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    good = random_poses(3, seed=2).rotation.float()
    _write(poses, first, good)
    state = copy.deepcopy(poses.state_dict())
    later = random_poses(6, seed=3).rotation.float()
    _write(poses, torch.arange(6), later)
    poses.go_back(state)
    torch.testing.assert_close(poses.table().rotation[first], good)
    torch.testing.assert_close(poses.table().rotation[rest], later[rest])
    assert poses.moved_degrees().isfinite().all()
