"""Poses that are given."""

from jaxtyping import Int64
from torch import Tensor, nn

from cryoem.batch import Pose


class KnownPoses(nn.Module):
    """Look-up in a fixed table.

    Parameters
    ----------
    pose
        Of all particles, shifts in pixels of the training box.
    """

    def __init__(self, pose: Pose) -> None:
        super().__init__()
        self.pose = pose.to("cpu")

    def forward(self, index: Int64[Tensor, " batch"]) -> Pose:
        """Poses of these particles."""
        if self.pose.rotation.device != index.device:
            self.pose = self.pose.to(index.device)
        return self.pose[index]

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes."""

    def table(self) -> Pose:
        """All poses, on the CPU."""
        return self.pose.to("cpu", non_blocking=False)
