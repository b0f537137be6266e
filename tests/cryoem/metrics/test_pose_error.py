import math

import pytest
import torch

from cryoem.batch import Pose
from cryoem.grids import symmetry_group
from cryoem.metrics.pose_error import nearest_equivalent, pose_errors
from cryoem.rotations import angle_between, from_relion, random_rotations, small_rotation

N = 20_000


def random_pose(seed: int, n: int = N) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    return Pose(random_rotations(n, generator), torch.randn(n, 2, generator=generator).double())


def test_random_rotations_are_as_wrong_as_chance() -> None:
    errors = pose_errors(random_pose(0), random_pose(1))
    summary = errors.summary(2.0)
    # the density of the angle is (1 - cos) / pi: mean pi/2 + 2/pi, median where t - sin t = pi/2
    assert summary["rotation_mean_degrees"] == pytest.approx(126.48, abs=1.0)
    assert summary["rotation_median_degrees"] == pytest.approx(132.35, abs=1.0)
    assert summary["rotation_mean_frobenius2"] == pytest.approx(6.0, abs=0.06)
    assert summary["rotation_median_frobenius2"] == pytest.approx(6.69, abs=0.06)
    assert summary["viewing_direction_mean_degrees"] == pytest.approx(90, abs=1)
    assert summary["in_plane_mean_degrees"] == pytest.approx(90, abs=1)
    below = (math.radians(10) - math.sin(math.radians(10))) / math.pi
    assert summary["rotation_share_below_10_degrees"] == pytest.approx(below, abs=5e-4)


def test_five_degrees_about_random_axes_are_five_degrees() -> None:
    truth = random_pose(0)
    axis = torch.nn.functional.normalize(torch.randn(N, 3).double(), dim=-1)
    turn = small_rotation(axis * math.radians(5.0))
    errors = pose_errors(Pose(turn @ truth.rotation, truth.shift), truth)
    assert torch.allclose(errors.angle_degrees, torch.tensor(5.0).double(), atol=1e-9)
    expected = 8 * math.sin(math.radians(2.5)) ** 2
    assert torch.allclose(errors.frobenius2, torch.tensor(expected).double(), atol=1e-9)
    assert torch.all(errors.viewing_degrees <= 5 + 1e-9)
    # the axis' part along the view turns in the plane, the rest tilts the view
    small = 5.0 * axis[:, 2].abs()
    assert torch.allclose(errors.in_plane_degrees, small, atol=5e-3)


def test_a_turn_in_the_plane_leaves_the_view_alone_and_a_tilt_the_plane() -> None:
    # also at the poles of the Euler angles, where psi alone means nothing
    tilt = torch.tensor([0.0, 70.0, 180.0]).double()
    rot, psi = torch.full_like(tilt, 30.0), torch.full_like(tilt, 200.0)
    shift = torch.zeros(3, 2)
    truth = Pose(from_relion(rot, tilt, psi), shift)
    turned = pose_errors(Pose(from_relion(rot, tilt, psi + 7), shift), truth)
    assert torch.allclose(turned.in_plane_degrees, torch.full_like(tilt, 7.0))
    assert torch.allclose(turned.viewing_degrees, torch.zeros_like(tilt), atol=1e-6)
    tilted = pose_errors(Pose(from_relion(rot, tilt + 7, psi), shift), truth)
    assert torch.allclose(tilted.viewing_degrees, torch.full_like(tilt, 7.0))
    assert torch.allclose(tilted.in_plane_degrees, torch.zeros_like(tilt), atol=1e-6)


def test_shifts_are_compared_in_pixels_and_angstrom() -> None:
    truth = random_pose(0, 5)
    errors = pose_errors(Pose(truth.rotation, truth.shift + torch.tensor([3.0, -4.0])), truth)
    summary = errors.summary(2.0)
    for name in ("median", "mean", "rms"):
        assert summary[f"shift_{name}_pixels"] == pytest.approx(5)
        assert summary[f"shift_{name}_angstrom"] == pytest.approx(10)


@pytest.mark.parametrize(("name", "order"), [("C1", 1), ("C4", 4), ("D3", 6), ("O", 24), ("I", 60)])
def test_equivalent_poses_of_a_symmetric_volume_are_no_error(name: str, order: int) -> None:
    group = symmetry_group(name)
    assert len(group) == order
    truth = random_pose(0, 300)
    pick = torch.randint(order, (300,), generator=torch.Generator().manual_seed(1))
    found = Pose(truth.rotation @ group[pick], truth.shift)
    assert float(pose_errors(found, truth, group).angle_degrees.max()) < 1e-5


def test_the_nearest_equivalent_is_nearest_by_brute_force() -> None:
    group, truth, found = symmetry_group("D2"), random_pose(0, 50), random_pose(1, 50)
    nearest = nearest_equivalent(found.rotation, truth.rotation, group)
    every = [angle_between(found.rotation @ element, truth.rotation) for element in group]
    expected = torch.stack(every).amin(0)
    assert torch.allclose(angle_between(found.rotation, nearest), expected)
