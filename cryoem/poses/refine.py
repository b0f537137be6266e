"""Poses that are given, and refined by gradient."""

from torch import nn

from cryoem.batch import Pose


class RefinedPoses(nn.Module):
    """A table whose rows follow the gradient of the images they belong to.

    Parameters
    ----------
    pose
        The start, for all particles.
    lr_rotation_degrees, lr_shift_pixels
        Size of a step.
    start_epoch
        Poses are held fixed before this epoch.
    """

    def __init__(
        self,
        pose: Pose,
        lr_rotation_degrees: float = 0.1,
        lr_shift_pixels: float = 0.05,
        start_epoch: int = 1,
    ) -> None:
        super().__init__()
        raise NotImplementedError
