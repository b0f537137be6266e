"""A run against the ground truth: poses, volumes and latents, as plain numbers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.analysis.decode import decode_volumes
from cryoem.analysis.latents import read_run_latents
from cryoem.batch import Pose
from cryoem.checkpoint import LoadedRun, load_run
from cryoem.errors import InputError
from cryoem.io.table import read_table
from cryoem.metrics.alignment import Alignment, align_poses, aligned_volumes
from cryoem.metrics.conformations import class_latents, latent_scores, masked_curves
from cryoem.metrics.pose_error import pose_errors, shift_distance, shift_summary
from cryoem.metrics.truth_folder import TruthFolder, rows_of_run

Align = Literal["none", "global", "classes"]
MakeMask = Callable[[Float[Tensor, "z y x"], float], Float[Tensor, "z y x"]]
_LEAST_FOR_LATENTS = 50


@dataclass(frozen=True)
class _Run:
    """A run beside the truth of its particles, row by row."""

    loaded: LoadedRun
    truth: TruthFolder
    pose: Pose | None
    state: Int64[np.ndarray, " particle"]
    coordinate: Float[np.ndarray, " particle"] | None
    device: torch.device

    @property
    def voxel_size(self) -> float:
        return self.loaded.geometry.pixel_size_angstrom

    def read(self, path: Path) -> Float[Tensor, "box box box"]:
        return self.truth.read(path, self.loaded.geometry.box_size, self.voxel_size)

    def consensus(self) -> Float[Tensor, "box box box"]:
        return self.truth.consensus(self.state, self.loaded.geometry.box_size, self.voxel_size)


@dataclass(frozen=True)
class _Frames:
    """What turns a run into the frame of the truth: one for all, or one for each class."""

    shared: Alignment | None
    of_class: Mapping[int, Alignment] = field(default_factory=dict)

    def of(self, state: int) -> Alignment | None:
        return self.of_class.get(state, self.shared)


def evaluate_run(
    path: Path,
    truth: TruthFolder,
    *,
    align: Align | None = None,
    mask: tuple[str, MakeMask] | None = None,
    symmetry: Float[Tensor, "element 3 3"] | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Compare all of a run that the truth knows.

    Parameters
    ----------
    path
        Run folder or ``.ckpt`` file.
    truth
        See :func:`cryoem.metrics.truth_folder.find_truth`.
    align
        ``global``: find frame, hand and origin from the poses first, and query the decoder there.
        By default that, unless the run's poses were given to it. ``classes``: a frame and an origin
        for each class, since no image tells a motion from the same motion seen from a frame that
        turns along with it.
    mask
        Name and maker (true volume, voxel size) of a mask, for curves beside those without.
    symmetry
        Rotations of the true volume onto itself.
    device
        Where to decode, the CPU by default.

    Returns
    -------
    dict
        ``run``, ``truth``, ``alignment``, and, where known, ``poses``, ``volumes``, ``latents``.

    Raises
    ------
    InputError
        If run and truth do not belong together, or there are no true poses to align by.
    """
    device = device or torch.device("cpu")
    run = _open(path, truth, device)
    known = str(run.loaded.config.get("poses", {}).get("_target_", "")).endswith(".KnownPoses")
    align = align or ("none" if known else "global")
    alignment, frames, of_class = None, _Frames(None), {}
    if align != "none":
        if run.pose is None:
            raise InputError(
                f"{truth.path}: no particles.star with the true poses in it or beside it, so "
                f"nothing to align by; say --align none if the frames agree"
            )
        alignment = align_poses(run.loaded.pose, run.pose, symmetry)
        of_class = _class_frames(run, run.pose, symmetry, alignment.flipped)
        frames = _Frames(alignment, of_class if align == "classes" else {})
    result: dict[str, Any] = {
        "run": {"path": path, "kind": run.loaded.kind, "epoch": run.loaded.epoch,
                "n_particles": run.loaded.geometry.n_particles,
                "box_size": run.loaded.geometry.box_size, "voxel_size_angstrom": run.voxel_size},
        "truth": {"path": truth.path, "n_volumes": len(truth.volumes), "column": truth.column,
                  "period": truth.period},
        "alignment": _describe(align, known, alignment),
    }  # fmt: skip
    if run.pose is not None:
        result["poses"] = _score_poses(run, run.pose, frames, of_class, symmetry)
    result["volumes"] = _score_volumes(run, frames, mask)
    if run.loaded.latent_dim and run.coordinate is not None and np.ptp(run.coordinate) > 0:
        z = _latents(run.loaded)
        if len(z) >= _LEAST_FOR_LATENTS:
            result["latents"] = latent_scores(z, run.coordinate, truth.period)
    return result


def _open(path: Path, truth: TruthFolder, device: torch.device) -> _Run:
    loaded = load_run(path, device)
    folder = path if path.is_dir() else path.parent.parent
    if loaded.latent_dim and loaded.latent_mean is None:
        raise InputError(f"{folder}: no latents.npz; it is written when a heterogeneous run ends")
    index = read_run_latents(path).index if loaded.latent_dim else None
    n = loaded.geometry.n_particles
    rows = rows_of_run(truth, n, index, folder / "particles.star")
    first = next(iter(truth.volumes))
    return _Run(
        loaded=loaded,
        truth=truth,
        pose=_true_pose(loaded, truth, rows),
        state=np.full(n, first) if truth.state is None else truth.state[rows],
        coordinate=None if truth.coordinate is None else truth.coordinate[rows],
        device=device,
    )


def _true_pose(loaded: LoadedRun, truth: TruthFolder, rows: np.ndarray) -> Pose | None:
    """Poses of the particles, shifts in pixels of the run's box."""
    if truth.particles is None:
        return None
    table = read_table(truth.particles).select(rows)
    if table.pose is None:
        return None
    pixel_size = torch.from_numpy(table.pixel_size_angstrom / loaded.geometry.pixel_size_angstrom)
    return Pose(table.pose.rotation, table.pose.shift * pixel_size[:, None])


def _latents(loaded: LoadedRun) -> np.ndarray:
    assert loaded.latent_mean is not None
    return loaded.latent_mean.numpy()


def _describe(align: Align, known: bool, alignment: Alignment | None) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": align, "poses_were_given": known}
    if alignment is not None:
        about |= {
            "flipped": alignment.flipped,
            "hand_ambiguous": alignment.hand_ambiguous,
            "median_degrees_same_hand": alignment.hand_medians_degrees[0],
            "median_degrees_other_hand": alignment.hand_medians_degrees[1],
            "rotation": alignment.rotation,
            "origin_pixels": alignment.origin,
        }
    return about


def _class_frames(
    run: _Run, truth: Pose, symmetry: Tensor | None, flipped: bool
) -> dict[int, Alignment]:
    """The best frame for each class by itself, all of the same hand."""
    frames = {}
    for state in np.unique(run.state):
        rows = torch.from_numpy(np.flatnonzero(run.state == state))
        found = run.loaded.pose[rows]
        frames[int(state)] = align_poses(found, truth[rows], symmetry, flipped=flipped)
    return frames


def _score_poses(
    run: _Run,
    truth: Pose,
    frames: _Frames,
    of_class: Mapping[int, Alignment],
    symmetry: Tensor | None,
) -> dict[str, Any]:
    pixel_size = run.voxel_size
    before = shift_summary(shift_distance(run.loaded.pose, truth), pixel_size)
    scores: dict[str, Any] = pose_errors(_turned(run, frames), truth, symmetry).summary(pixel_size)
    scores |= {f"{name}_before_alignment": value for name, value in before.items()}
    if len(of_class) > 1:
        errors = pose_errors(_turned(run, _Frames(frames.shared, of_class)), truth, symmetry)
        scores["rotation_median_degrees_aligned_per_class"] = float(errors.angle_degrees.median())
    return scores


def _turned(run: _Run, frames: _Frames) -> Pose:
    """Poses of all particles in the frame of the truth, float64."""
    found = run.loaded.pose
    rotation, shift = found.rotation.double().clone(), found.shift.double().clone()
    for state in np.unique(run.state):
        frame, rows = frames.of(int(state)), torch.from_numpy(run.state == state)
        if frame is not None:
            part = frame.in_frame_of_truth(found[rows])
            rotation[rows], shift[rows] = part.rotation, part.shift
    return Pose(rotation, shift)


def _score_volumes(run: _Run, frames: _Frames, mask: tuple[str, MakeMask] | None) -> dict[str, Any]:
    """Numbers of each volume under each mask, and their mean, spread and median over volumes."""
    consensus, moving = run.consensus(), None
    if run.truth.moving_mask is not None:
        moving = run.read(run.truth.moving_mask)
    rows = []
    for row, volumes, truth in _pairs(run, frames, consensus):
        masks: dict[str, Tensor | None] = {"none": None}
        if mask is not None:
            masks[mask[0]] = mask[1](truth, run.voxel_size)
        if moving is not None:
            masks["moving"] = moving
        if "state" in row:
            volumes = {**volumes, "consensus": consensus}
        for name, volume in volumes.items():
            curves = masked_curves(volume, truth, masks)
            row[name] = {key: curve.numbers(run.voxel_size) for key, curve in curves.items()}
        rows.append(row)
    return {"summary": _over_volumes(rows), "each": rows}


def _pairs(
    run: _Run, frames: _Frames, consensus: Tensor
) -> Iterator[tuple[dict[str, Any], Mapping[str, Tensor], Tensor]]:
    """Yield what is compared, its decoded volumes by name, and the truth."""
    if run.loaded.latent_dim == 0:
        volume = next(_decode(run, frames.shared, None))
        yield {"n_particles": len(run.state)}, {"volume": volume}, consensus
        return
    z = _latents(run.loaded)
    classes = class_latents(z, run.state)
    names = ("nearest latent", "mean latent", "own mean")
    for i, state in enumerate(int(state) for state in classes.state):
        nearest = int(classes.nearest[i])
        about = {
            "state": state, "n_particles": int(classes.count[i]), "nearest_particle": nearest,
        }  # fmt: skip
        at = np.stack([z[nearest], classes.mean[i], z.mean(axis=0)])
        volumes = dict(zip(names, _decode(run, frames.of(state), at), strict=True))
        yield about, volumes, run.read(run.truth.volumes[state])


def _decode(run: _Run, alignment: Alignment | None, z: np.ndarray | None) -> Iterator[Tensor]:
    loaded, device = run.loaded, run.device
    side, scale = loaded.geometry.box_size, loaded.data_scale
    if alignment is None:
        volumes = decode_volumes(loaded.decoders, side, z, data_scale=scale, device=device)
    else:
        volumes = aligned_volumes(
            loaded.decoders, side, z, alignment, data_scale=scale, device=device
        )
    return (torch.from_numpy(volume) for volume in volumes)


def _over_volumes(rows: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in [key for key, value in rows[0].items() if isinstance(value, dict)]:
        summary[name] = {}
        for mask, numbers in rows[0][name].items():
            values = {key: np.array([row[name][mask][key] for row in rows]) for key in numbers}
            summary[name][mask] = {
                key: {"mean": column.mean(), "std": column.std(), "median": np.median(column)}
                for key, column in values.items()
            }
    return summary
