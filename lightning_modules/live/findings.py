"""What can be said of a model after an epoch: numbers, and the signals that they give."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem import signals
from cryoem.batch import Pose
from cryoem.poses import KnownPoses, SearchedPoses
from cryoem.rotations import angle_between
from cryoem.signals import Moves, Signal
from cryoem.suspicious import suspicious_particles
from lightning_modules.base import Reconstruction
from lightning_modules.live.panels import consensus
from lightning_modules.live.probe import Explained
from lightning_modules.live.record import Epoch

# Median that the last search moved poses, above which they are not yet those of one structure.
_TURNED_OVER_DEGREES = 30.0


@dataclass(frozen=True)
class Snapshot:
    """A model as it is after an epoch; poses are None where they are given."""

    epoch: Epoch
    pose: Pose | None
    mean: Float[np.ndarray, "z y x"]


def snapshot(model: Reconstruction, epoch: Epoch) -> Snapshot:
    """What the next epoch will be compared with."""
    pose = None if isinstance(model.poses, KnownPoses) else model.poses.table()
    return Snapshot(epoch, pose, consensus(model, epoch))


@dataclass
class Findings:
    """Numbers by name and unit, of each particle by label, and signals."""

    numbers: dict[str, float] = field(default_factory=dict)
    moved: dict[str, Float[np.ndarray, " particle"]] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    suspicious: pd.DataFrame | None = None
    moves: Moves = field(default_factory=Moves)


def findings(
    model: Reconstruction,
    data: Any,
    before: Snapshot | None,
    now: Snapshot,
    moves_before: Moves,
    explained: Explained,
) -> Findings:
    """Compare with the epoch before, and judge."""
    found = Findings()
    found.numbers["probe_explained_nats"] = explained.nats
    if before is not None:
        _compare(model, before, now, found)
    box_size = model.geometry.box_size
    found.signals += _known(signals.convergence(found.moves, moves_before, box_size))
    if now.epoch.has_latents:
        _judge_latents(model, data, now.epoch, found)
    if not _is_without_basin(model):
        judged = signals.noise(explained.nats, explained.standard_error, explained.trained_on)
        found.signals.append(judged)
    _suspect(data, now.epoch, found)
    return found


def _compare(model: Reconstruction, before: Snapshot, now: Snapshot, found: Findings) -> None:
    """How far everything has moved."""
    size = max(float(np.linalg.norm(now.mean)), 1e-30)
    moves = {"volume": float(np.linalg.norm(now.mean - before.mean)) / size}
    if now.pose is not None and before.pose is not None:
        degrees = _turned(model, before.pose.rotation, now.pose.rotation)
        pixels = (now.pose.shift - before.pose.shift).norm(dim=-1)
        found.moved["poses turned by, degrees"] = degrees.numpy()
        found.moved["shifts moved by, pixels"] = pixels.numpy()
        moves |= {"pose_degrees": float(degrees.median()), "shift_pixels": float(pixels.median())}
    if now.epoch.has_latents and before.epoch.has_latents:
        of_each = signals.latent_moves(before.epoch.z, now.epoch.z)
        found.moved["latents moved by, of their spread"] = of_each
        if np.isfinite(of_each).any():
            moves["latents"] = signals.latent_change(before.epoch.z, now.epoch.z)
    found.moves = Moves(**moves)
    named = {"pose_degrees": "pose_change_degrees", "shift_pixels": "shift_change_pixels"}
    found.numbers |= {named.get(name, f"{name}_change"): value for name, value in moves.items()}


def _turned(model: Reconstruction, before: Tensor, now: Tensor) -> Tensor:
    """Degrees, to the nearest symmetry mate."""
    poses = model.poses
    group = poses.group.cpu() if isinstance(poses, SearchedPoses) else torch.eye(3)[None]
    return torch.stack([angle_between(before @ mate, now) for mate in group]).amin(0)


def _judge_latents(model: Reconstruction, data: Any, epoch: Epoch, found: Findings) -> None:
    known = np.isfinite(epoch.z).all(axis=1)
    z = epoch.z[known]
    found.signals.append(signals.collapse(z, float(epoch.kl[known].mean())))
    found.numbers["active_latents"] = signals.active_dimensions(z)
    direction = model.poses.table().rotation[:, 2].numpy()[known]
    ctf = data.table.ctf
    defocus = None if ctf is None else ctf.defocus_u_angstrom.numpy()[known]
    signal, told = signals.nuisance(z, direction, defocus)
    found.signals += _known(signal)
    names = {"viewing direction": "latent_r2_of_view", "defocus": "latent_r2_of_defocus"}
    found.numbers |= {names[name]: r2 for name, r2 in told.items()}


def _suspect(data: Any, epoch: Epoch, found: Findings) -> None:
    z = epoch.z if epoch.has_latents else None
    found.suspicious = suspicious_particles(epoch.error, z)
    found.numbers["suspicious_particles"] = len(found.suspicious)
    found.signals += _known(signals.suspicious(len(found.suspicious), len(epoch.error)))


def _is_without_basin(model: Reconstruction) -> bool:
    """Whether a search has not yet come to most particles, or still turns them over."""
    poses = model.poses
    if not isinstance(poses, SearchedPoses):
        return False
    return bool(poses.moved_degrees().median() > _TURNED_OVER_DEGREES)


def _known(signal: Signal | None) -> list[Signal]:
    return [] if signal is None else [signal]
