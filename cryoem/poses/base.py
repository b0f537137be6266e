"""What every source of poses is."""

from typing import Protocol, runtime_checkable

from jaxtyping import Int64
from torch import Tensor

from cryoem.batch import Pose


@runtime_checkable
class PoseProvider(Protocol):
    """Poses of the particles of a batch. It sees neither images nor a loss.

    Those that learn are ``nn.Module`` and hold :class:`cryoem.poses.rows.RowTable`, which the
    training loop steps and the checkpoint keeps.
    """

    def __call__(self, index: Int64[Tensor, " batch"]) -> Pose:
        """Poses of these particles, on the device of ``index``."""

    def begin_epoch(self, epoch: int) -> None:
        """Follow the schedule."""

    def table(self) -> Pose:
        """Poses of all particles, in the order of the file, on the CPU."""
