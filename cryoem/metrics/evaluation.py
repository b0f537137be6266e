"""A run against the ground truth: poses, volumes and latents, as plain numbers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from cryoem.metrics.alignment import Alignment, align_poses, aligned_volumes, unaligned
from cryoem.metrics.conformations import class_latents, latent_scores, masked_curves
from cryoem.metrics.pose_error import pose_errors, shift_distance, shift_summary
from cryoem.metrics.truth_folder import TruthFolder, rows_of_run

Align = Literal["none", "global"]
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
        By default that, unless the run's poses were given to it.
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
    alignment = None
    if align == "global":
        if run.pose is None:
            raise InputError(
                f"{truth.path}: no particles.star with the true poses in it or beside it, so "
                f"nothing to align by; say --align none if the frames agree"
            )
        alignment = align_poses(run.loaded.pose, run.pose, symmetry)
    result: dict[str, Any] = {
        "run": {"path": path, "kind": run.loaded.kind, "epoch": run.loaded.epoch,
                "n_particles": run.loaded.geometry.n_particles,
                "box_size": run.loaded.geometry.box_size, "voxel_size_angstrom": run.voxel_size},
        "truth": {"path": truth.path, "n_volumes": len(truth.volumes), "column": truth.column,
                  "period": truth.period},
        "alignment": _describe(align, known, alignment),
    }  # fmt: skip
    if run.pose is not None:
        result["poses"] = _score_poses(run, run.pose, alignment, symmetry)
    result["volumes"] = _score_volumes(run, alignment, mask)
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


def _score_poses(
    run: _Run, truth: Pose, alignment: Alignment | None, symmetry: Tensor | None
) -> dict[str, Any]:
    found, pixel_size = run.loaded.pose, run.voxel_size
    before = shift_summary(shift_distance(found, truth), pixel_size)
    frame = unaligned(found, truth) if alignment is None else alignment
    scores: dict[str, Any] = pose_errors(frame.in_frame_of_truth(found), truth, symmetry).summary(
        pixel_size
    )
    scores |= {f"{name}_before_alignment": value for name, value in before.items()}
    if alignment is not None and len(np.unique(run.state)) > 1:
        scores["rotation_median_degrees_aligned_per_class"] = _per_class(run, truth, symmetry)
    return scores


def _per_class(run: _Run, truth: Pose, symmetry: Tensor | None) -> float:
    """Mean over particles of the median of their class, each class in a frame of its own."""
    total = 0.0
    for state in np.unique(run.state):
        rows = torch.from_numpy(np.flatnonzero(run.state == state))
        fit = align_poses(run.loaded.pose[rows], truth[rows], symmetry)
        total += min(fit.hand_medians_degrees) * len(rows)
    return total / len(run.state)


def _score_volumes(
    run: _Run, alignment: Alignment | None, mask: tuple[str, MakeMask] | None
) -> dict[str, Any]:
    """Numbers of each volume under each mask, and their mean, spread and median over volumes."""
    consensus, moving = run.consensus(), None
    if run.truth.moving_mask is not None:
        moving = run.read(run.truth.moving_mask)
    rows = []
    for row, volumes, truth in _pairs(run, alignment, consensus):
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
    run: _Run, alignment: Alignment | None, consensus: Tensor
) -> Iterator[tuple[dict[str, Any], Mapping[str, Tensor], Tensor]]:
    """Yield what is compared, its decoded volumes by name, and the truth."""
    if run.loaded.latent_dim == 0:
        volume = next(_decode(run, alignment, None))
        yield {"n_particles": len(run.state)}, {"volume": volume}, consensus
        return
    z = _latents(run.loaded)
    classes = class_latents(z, run.state)
    at = np.stack([z[classes.nearest], classes.mean], axis=1).reshape(-1, z.shape[1])
    decoded = _decode(run, alignment, np.concatenate([z.mean(axis=0, keepdims=True), at]))
    own_mean = next(decoded)
    for state, count, nearest in zip(classes.state, classes.count, classes.nearest, strict=True):
        about = {
            "state": int(state), "n_particles": int(count), "nearest_particle": int(nearest),
        }  # fmt: skip
        volumes = {
            "nearest latent": next(decoded), "mean latent": next(decoded), "own mean": own_mean,
        }  # fmt: skip
        yield about, volumes, run.read(run.truth.volumes[int(state)])


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
