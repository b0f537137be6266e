"""What a finished run leaves in its folder, from the model and its data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoem.analysis.decode import decode_volumes
from cryoem.analysis.particle_facts import describe
from cryoem.analysis.path import representative_particles
from cryoem.batch import Pose
from cryoem.decoders.framed import in_frame
from cryoem.export_run import (
    resolution_entry,
    write_data_summary,
    write_figures,
    write_hetero_volumes,
    write_latents,
    write_metrics,
    write_volumes,
)
from cryoem.io.export import write_particles_star
from cryoem.metrics.alignment import Alignment, align_poses, aligned_volumes
from cryoem.metrics.conformations import class_latents
from cryoem.metrics.corrected import corrected_fsc
from cryoem.metrics.fsc import FSCCurve, fsc
from cryoem.metrics.latents import coordinate_r2
from cryoem.metrics.mask import TIGHT, outline_mask
from cryoem.metrics.pose_error import pose_errors
from cryoem.metrics.truth_folder import TruthFolder, find_truth
from cryoem.poses import KnownPoses, SearchedPoses
from cryoem.report import build_report
from lightning_modules.base import Reconstruction
from lightning_modules.held_out import explained_up_to
from lightning_modules.hetero import HeteroReconstruction
from lightning_modules.inference import example_images

GOLD_STANDARD, AGAINST_TRUTH = 0.143, 0.5
_EXAMPLES, _LEAST_FOR_LATENTS = 6, 100


@dataclass(frozen=True)
class Latents:
    """Mean and standard deviation per particle, and the frame they are in."""

    mean: Tensor
    std: Tensor
    frame: Tensor | None = None


@dataclass
class Findings:
    """Numbers and figures, collected on the way.

    ``alignment`` turns what was found into the frame of the poses in the file, None where the run
    has its frame from them.
    """

    metrics: dict[str, Any]
    alignment: Alignment | None
    resolution: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, FSCCurve] = field(default_factory=dict)
    drawn: dict[str, np.ndarray] = field(default_factory=dict)


def write_results(
    folder: Path,
    model: Reconstruction,
    data: Any,
    latents: Latents | None,
    metrics: dict[str, Any],
    n_volumes: int,
) -> tuple[list[Path], dict[str, Any]]:
    """Write volumes/, latents.npz, particles.star, figures/, metrics.json and report.html.

    Parameters
    ----------
    folder
        Of the run.
    model, data
        Trained, and the datamodule it was trained on.
    latents
        One row per particle; None for a homogeneous model.
    metrics
        Numbers of the training, which go into ``metrics.json`` as well.
    n_volumes
        How many volumes to decode along the latents.

    Returns
    -------
    pictures, numbers
        The files in figures/, and what metrics.json holds.
    """
    model.eval()
    truth = None if data.truth is None else find_truth(data.truth).of(data.table.row)
    metrics = dict(metrics)
    if len(data.held_out):
        explained = explained_up_to(model, data)
        metrics["held_out/explained_nats"] = explained["nats"][-1]
        metrics["held_out/explained"] = explained
    found = Findings(metrics, _align(model, data, metrics))
    z = None
    if isinstance(model, HeteroReconstruction) and latents is not None:
        z, z_std = latents.mean.cpu().numpy(), latents.std.cpu().numpy()
        frame = None if latents.frame is None else latents.frame.numpy()
        write_latents(folder, z, z_std, data.table.row, frame)
        _hetero(folder, model, latents, n_volumes, truth, found)
    else:
        _homo(folder, model, truth, found)
    margin = model.poses.margin().numpy() if isinstance(model.poses, SearchedPoses) else None
    write_particles_star(data.table, folder / "particles.star", _poses(model, data), z, margin)
    write_data_summary(folder, describe(data.table) | data.summary())
    rows = torch.linspace(0, len(data.table) - 1, min(_EXAMPLES, len(data.table))).long()
    raw, centred, predicted = (x.numpy() for x in example_images(model, data, rows))
    voxel_size = model.geometry.pixel_size_angstrom
    pictures = write_figures(
        folder,
        voxel_size,
        curves=found.curves,
        rotations=model.poses.table().rotation.numpy(),
        margin=margin,
        gallery=(raw, centred, predicted),
        **found.drawn,
    )
    # last, because metrics.json says that a run is finished
    numbers = found.metrics | {"resolution": found.resolution}
    write_metrics(folder, numbers)
    build_report(folder)
    return pictures, numbers


def _homo(folder: Path, model: Reconstruction, truth: TruthFolder | None, found: Findings) -> None:
    side, voxel_size = model.geometry.box_size, model.geometry.pixel_size_angstrom
    halves = [torch.from_numpy(_decode(model, [decoder], None)[0]) for decoder in model.decoders]
    volume = torch.stack(halves).mean(0)
    names = {"volume": volume, "half1": halves[0], "half2": halves[-1]}
    write_volumes(folder, {name: v.numpy() for name, v in names.items()}, voxel_size)
    found.drawn["volume"] = volume.numpy()
    for name, (curve, mask) in _half_curves(halves[0], halves[-1], volume, voxel_size).items():
        found.curves[name] = curve
        found.resolution.append(
            resolution_entry(curve, GOLD_STANDARD, voxel_size, "half-set volumes", mask)
        )
    found.metrics["mean_fsc_of_half_sets"] = found.curves["half maps"].mean()
    if truth is not None and truth.mean is not None:
        aligned = torch.from_numpy(next(_compared(model, model.decoders, None, found)))
        curve = fsc(aligned, truth.read(truth.mean, side, voxel_size))
        found.curves["volume and truth"] = curve
        found.resolution.append(
            resolution_entry(curve, AGAINST_TRUTH, voxel_size, "volume and truth", "none")
        )


def _half_curves(
    first: Tensor, second: Tensor, volume: Tensor, voxel_size: float
) -> dict[str, tuple[FSCCurve, str]]:
    """Curves by name, with the mask of each; the masked one only where there is an outline."""
    try:
        mask = outline_mask(volume, voxel_size, TIGHT)
    except ValueError:  # nothing positive yet
        return {"half maps": (fsc(first, second), "none")}
    result = corrected_fsc(first, second, mask)
    return {
        "half maps": (result.unmasked, "none"),
        "half maps, soft mask": (result.corrected, "soft outline, corrected"),
    }


def _hetero(
    folder: Path,
    model: Reconstruction,
    latents: Latents,
    n_volumes: int,
    truth: TruthFolder | None,
    found: Findings,
) -> None:
    z = latents.mean.cpu().numpy()
    decoders = in_frame(model.decoders, latents.frame)
    marks = z[representative_particles(z, n_volumes)]
    series = _decode(model, decoders, marks)
    write_hetero_volumes(folder, series, marks, model.geometry.pixel_size_angstrom)
    found.drawn |= {
        "volume": series[len(series) // 2], "series": series, "z": z, "series_latents": marks,
    }  # fmt: skip
    if truth is not None and truth.state is not None:
        _score_latents(model, decoders, z, truth, found)


def _score_latents(
    model: Reconstruction, decoders: list, z: np.ndarray, truth: TruthFolder, found: Findings
) -> None:
    """How well the latents know the coordinate, and the volumes at their means the truth."""
    side, voxel_size = model.geometry.box_size, model.geometry.pixel_size_angstrom
    found.metrics["latent_r2_of_coordinate"] = _latent_r2(z, truth)
    assert truth.state is not None
    classes = class_latents(z, truth.state)
    curves = [
        fsc(torch.from_numpy(volume), truth.read(truth.volumes[int(state)], side, voxel_size))
        for state, volume in zip(
            classes.state, _compared(model, decoders, classes.mean, found), strict=True
        )
    ]
    mean = FSCCurve(curves[0].frequency, np.mean([curve.correlation for curve in curves], axis=0))
    found.curves["conformations and truth, mean"] = mean
    found.metrics["mean_fsc_of_conformations"] = mean.mean()
    found.resolution.append(
        resolution_entry(mean, AGAINST_TRUTH, voxel_size, "conformations and truth", "none")
    )


def _latent_r2(z: np.ndarray, truth: TruthFolder) -> float | None:
    """None where nothing moves, or particles are too few."""
    coordinate = truth.coordinate
    if coordinate is None or np.ptp(coordinate) == 0 or len(z) < _LEAST_FOR_LATENTS:
        return None
    return coordinate_r2(z, coordinate, truth.period)


def _decode(model: Reconstruction, decoders: list, z: np.ndarray | None) -> np.ndarray:
    volumes = decode_volumes(
        decoders, model.geometry.box_size, z, data_scale=model.data_scale, device=model.device
    )
    return np.stack(list(volumes))


def _compared(
    model: Reconstruction, decoders: list, z: np.ndarray | None, found: Findings
) -> Iterator[np.ndarray]:
    """Volumes in the frame of the truth: one per latent, of all decoders together."""
    side, scale = model.geometry.box_size, model.data_scale
    if found.alignment is None:
        return decode_volumes(decoders, side, z, data_scale=scale, device=model.device)
    return aligned_volumes(
        decoders, side, z, found.alignment, data_scale=scale, device=model.device
    )


def _align(model: Reconstruction, data: Any, metrics: dict[str, Any]) -> Alignment | None:
    """Frame, hand and origin in which found poses agree with those in the file, if there are any.

    How well they do goes into the metrics.
    """
    if not isinstance(model.poses, SearchedPoses) or data.pose is None:
        return None
    found, group = model.poses.table(), model.poses.group.cpu()
    alignment = align_poses(found, data.pose, group)
    errors = pose_errors(alignment.in_frame_of_truth(found), data.pose, group)
    metrics["poses_of_the_file/rotation_median_degrees"] = float(errors.angle_degrees.median())
    metrics["poses_of_the_file/shift_median_pixels"] = float(errors.shift_pixels.median())
    metrics["poses_of_the_file/other_hand"] = float(alignment.flipped)
    return alignment


def _poses(model: Reconstruction, data: Any) -> Pose | None:
    """Poses in pixels of the file; None where they are the file's own."""
    if isinstance(model.poses, KnownPoses):
        return None
    pose = model.poses.table()
    return Pose(pose.rotation, pose.shift * data.binning)
