"""Poses that are given."""

from typing import Any

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

    def get_extra_state(self) -> dict[str, Any]:
        """Tables for the checkpoint."""
        return {"rotation": self.pose.rotation, "shift": self.pose.shift}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_extra_state` gave."""
        self.pose = Pose(rotation=state["rotation"].clone(), shift=state["shift"].clone())
