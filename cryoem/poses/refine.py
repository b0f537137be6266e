"""Poses that are given, and refined by gradient."""

import math

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from cryoem.batch import Pose
from cryoem.poses.rows import RotationRows, VectorRows


class RefinedPoses(nn.Module):
    """A table whose rows follow the gradient of the images they belong to.

    Parameters
    ----------
    pose
        The start, for all particles.
    lr_rotation_degrees, lr_shift_pixels
        Size of a step.
    start_epoch
        Poses are held fixed before this epoch: gradients of an empty volume mean nothing.
    """

    def __init__(
        self,
        pose: Pose,
        lr_rotation_degrees: float = 0.1,
        lr_shift_pixels: float = 0.05,
        start_epoch: int = 1,
    ) -> None:
        super().__init__()
        self.rotation = RotationRows(pose.rotation, math.radians(lr_rotation_degrees))
        self.shift = VectorRows(pose.shift, lr_shift_pixels)
        self.start_epoch = start_epoch
        self.fixed = start_epoch > 0

    def forward(self, index: Int64[Tensor, " batch"]) -> Pose:
        """Poses of these particles, with gradient while they are being refined."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fixed):
            return Pose(rotation=self.rotation(index), shift=self.shift(index))

    def begin_epoch(self, epoch: int) -> None:
        """Hold the poses fixed before ``start_epoch``."""
        self.fixed = epoch < self.start_epoch

    def table(self) -> Pose:
        """All poses as they are now, on the CPU."""
        return Pose(self.rotation.snapshot(), self.shift.snapshot())
