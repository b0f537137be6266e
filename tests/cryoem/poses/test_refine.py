"""Refined poses find back to the truth when the volume is known."""

import torch

from cryoem.batch import ParticleBatch, Pose
from cryoem.decoders.phantom import random_phantom
from cryoem.forward_model import ForwardModel
from cryoem.lattice import FourierLattice
from cryoem.losses import squared_error
from cryoem.poses import KnownPoses, PoseProvider, RefinedPoses
from cryoem.rotations import angle_between, random_rotations, small_rotation

BOX, N = 24, 64


def _truth(generator: torch.Generator) -> Pose:
    shift = 2 * torch.rand(N, 2, generator=generator) - 1
    return Pose(random_rotations(N, generator).float(), shift)


def _batch(model: ForwardModel, pose: Pose, generator: torch.Generator) -> ParticleBatch:
    slices = model.slices(pose.rotation, torch.ones(N))
    centred = ParticleBatch(torch.arange(N), slices, torch.ones(N))
    shifted = model.observed(centred, -pose.shift)
    noise = torch.randn(*shifted.shape, dtype=torch.complex64, generator=generator)
    return ParticleBatch(torch.arange(N), shifted + noise, torch.ones(N))


def test_perturbed_poses_return_to_the_truth_when_the_volume_is_known() -> None:
    generator = torch.Generator().manual_seed(1)
    model = ForwardModel(random_phantom(12, 7.0, 1.2, BOX, generator), FourierLattice(BOX), 1.0)
    model.decoder.weights.mul_(80)
    truth = _truth(generator)
    batch = _batch(model, truth, generator)
    tilt = small_rotation(0.08 * torch.randn(N, 3, generator=generator))
    start = Pose(tilt @ truth.rotation, truth.shift + 0.5 * torch.randn(N, 2, generator=generator))
    poses = RefinedPoses(start, lr_rotation_degrees=0.3, lr_shift_pixels=0.05, start_epoch=0)
    for _ in range(60):
        pose = poses(batch.index)
        predicted = model.slices(pose.rotation, batch.pixel_size_angstrom)
        squared_error(predicted, model.observed(batch, pose.shift)).sum().backward()
        poses.rotation.apply_gradients()
        poses.shift.apply_gradients()
    found = poses.table()
    assert angle_between(start.rotation, truth.rotation).median() > 5
    assert angle_between(found.rotation, truth.rotation).median() < 1
    assert (found.shift - truth.shift).norm(dim=-1).median() < 0.1


def test_poses_are_held_fixed_before_their_start_epoch() -> None:
    poses = RefinedPoses(_truth(torch.Generator().manual_seed(0)), start_epoch=2)
    index = torch.tensor([3, 1])
    for epoch, moving in ((0, False), (1, False), (2, True)):
        poses.begin_epoch(epoch)
        assert poses(index).rotation.requires_grad is moving
        assert poses(index).shift.requires_grad is moving


def test_refined_poses_survive_the_state_dict() -> None:
    pose = _truth(torch.Generator().manual_seed(0))
    empty = RefinedPoses(_truth(torch.Generator().manual_seed(9)))
    empty.load_state_dict(RefinedPoses(pose).state_dict())
    assert torch.equal(empty.table().rotation, pose.rotation)
    assert torch.equal(empty(torch.tensor([5])).shift, pose.shift[5:6])


def test_given_poses_are_looked_up_by_row() -> None:
    pose = _truth(torch.Generator().manual_seed(0))
    found = KnownPoses(pose)(torch.tensor([7, 2]))
    assert isinstance(KnownPoses(pose), PoseProvider)
    assert torch.equal(found.rotation, pose.rotation[[7, 2]])
    assert torch.equal(found.shift, pose.shift[[7, 2]])
