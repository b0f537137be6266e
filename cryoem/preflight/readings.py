"""The conventions that files get wrong, as other ways to read the same numbers."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cryoem.batch import Pose
from cryoem.preflight.trial import Reading
from cryoem.rotations import random_rotations

# Measured on simulated images, right readings explain 1.04 to 3 times as much as what only differs
# beyond the first zero of the CTF. Real images have more signal below it than the CTF says (1.1
# times as much explained without one, for a tilt series whose CTF has no zero): where another
# reading has less of a CTF, that alone must not decide.
CLEAR, SLIGHT = 1.5, 1.02
STATED = "as stated"
CONTROL = "poses of other images"


def shuffled(pose: Pose, seed: int = 0) -> Reading:
    """The control: every image gets the pose of another one."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pose), generator=generator).to(pose.rotation.device)
    return Reading(CONTROL, pose[order])


def unknown(n: int, device: torch.device, seed: int = 0) -> Reading:
    """Where there are no poses: random ones. They still show whether the middle is light."""
    rotation = random_rotations(n, torch.Generator().manual_seed(seed)).float()
    return Reading("random poses", Pose(rotation.to(device), torch.zeros(n, 2, device=device)))


def other_rotations(stated: Reading) -> list[Reading]:
    """The inverse rotations; the images upside down."""
    rotation, shift = stated.pose.rotation, stated.pose.shift
    upside_down = torch.diag(rotation.new_tensor([1, -1, -1]))
    mirrored = Pose(upside_down @ rotation, shift * shift.new_tensor([1, -1]))
    return [
        replace(stated, name="rotations transposed", pose=Pose(rotation.mT, shift)),
        replace(stated, name="images upside down", pose=mirrored),
    ]


def other_shifts(stated: Reading) -> list[Reading]:
    """The opposite sign, x for y, or no shifts at all; nothing where all are zero."""
    rotation, shift = stated.pose.rotation, stated.pose.shift
    if not shift.any():
        return []
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "shifts negated": torch.neg,
        "shifts x and y swapped": lambda xy: xy.flip(-1),
        "shifts ignored": torch.zeros_like,
    }
    return [
        replace(stated, name=_joined(stated, name), pose=Pose(rotation, change(shift)))
        for name, change in changes.items()
    ]


def other_transfers(stated: Reading) -> list[Reading]:
    """No CTF; one whose phases are flipped already."""
    return [
        replace(stated, name=_joined(stated, "without CTF"), use_ctf=False, margin=CLEAR),
        replace(
            stated, name=_joined(stated, "phases flipped already"), flipped=True, margin=SLIGHT
        ),
    ]


def other_pixel_sizes(stated: Reading, shifts_in_angstrom: bool) -> list[Reading]:
    """Half and twice the pixel size; shifts that the file gives in angstrom change with it."""
    found = []
    for factor, words, margin in ((0.5, "half", SLIGHT), (2.0, "twice", CLEAR)):
        shift = stated.pose.shift / factor if shifts_in_angstrom else stated.pose.shift
        name = _joined(stated, f"{words} the pixel size")
        pose = Pose(stated.pose.rotation, shift)
        found.append(replace(stated, name=name, pose=pose, pixel_factor=factor, margin=margin))
    return found


def _joined(stated: Reading, name: str) -> str:
    return name if stated.name == STATED else f"{stated.name}, {name}"
