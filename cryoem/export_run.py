"""The results of a run as files in its folder: volumes, latents, numbers and figures."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from matplotlib.figure import Figure

from cryoem import figures
from cryoem.analysis.path import representative_latents as representative_latents
from cryoem.io.atomic import atomic_path
from cryoem.io.volume import write_volume
from cryoem.metrics.fsc import FSCCurve

_SERIES = re.compile(r"volume_\d{3,}\.mrc")


def write_volumes(
    run_dir: Path, volumes: Mapping[str, Float[np.ndarray, "z y x"]], voxel_size: float
) -> list[Path]:
    """Write ``volumes/NAME.mrc`` for each, and a ChimeraX script; ``voxel_size`` in angstrom."""
    folder = Path(run_dir) / "volumes"
    paths = [folder / f"{name}.mrc" for name in volumes]
    for path, volume in zip(paths, volumes.values(), strict=True):
        write_volume(path, volume, voxel_size)
    write_chimerax_script(folder, [path.name for path in paths])
    return paths


def write_hetero_volumes(
    run_dir: Path,
    volumes: Iterable[Float[np.ndarray, "z y x"]],
    latents: Float[np.ndarray, "volume latent"],
    voxel_size: float,
) -> list[Path]:
    """Write ``volumes/`` as :func:`write_series` does, without what an earlier epoch left there."""
    folder = Path(run_dir) / "volumes"
    for stale in stale_volumes(folder, len(latents)):
        stale.unlink()
    return write_series(folder, volumes, latents, voxel_size)


def write_series(
    folder: Path,
    volumes: Iterable[Float[np.ndarray, "z y x"]],
    latents: Float[np.ndarray, "volume latent"],
    voxel_size: float,
    particles: Int64[np.ndarray, " volume"] | None = None,
) -> list[Path]:
    """Write ``volume_001.mrc ...``, ``volumes.csv`` and a ChimeraX script.

    Parameters
    ----------
    folder
        Made if it is missing.
    volumes
        As many as there are latents; taken one by one, so that they need not fit into memory.
    latents
        One row per volume, for the table.
    voxel_size
        Angstrom.
    particles
        Row in the input file of the particle that each latent belongs to, for the table.
    """
    paths = [folder / f"volume_{i:03d}.mrc" for i in range(1, len(latents) + 1)]
    for path, volume in zip(paths, volumes, strict=True):
        write_volume(path, volume, voxel_size)
    table = pd.DataFrame(latents, columns=[f"z{i + 1}" for i in range(latents.shape[1])])
    table.insert(0, "volume", [path.name for path in paths])
    if particles is not None:
        table["particle"] = particles
    with atomic_path(folder / "volumes.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_chimerax_script(folder, [path.name for path in paths])
    return paths


def stale_volumes(folder: Path, n: int) -> list[Path]:
    """Return the volumes of an earlier series in ``folder`` that ``n`` new ones do not replace."""
    kept = {f"volume_{i:03d}.mrc" for i in range(1, n + 1)}
    found = sorted(folder.glob("volume_*.mrc"))
    return [path for path in found if _SERIES.fullmatch(path.name) and path.name not in kept]


def write_chimerax_script(folder: Path, names: list[str]) -> Path:
    """Write ``open.cxc``, which shows the volumes in ChimeraX; a series as a film."""
    is_series = len(names) > 1 and all(_SERIES.fullmatch(name) for name in names)
    lines = ["# ChimeraX: File > Open, or `open open.cxc` in this folder"]
    if is_series:
        lines += [f"open {' '.join(names)} vseries true", "volume #1 sdLevel 4 step 1"]
        lines += ["vseries play #1 direction oscillate loop true maxFrameRate 6"]
    else:
        lines += [f"open {name}" for name in names] + ["volume all sdLevel 4 step 1"]
        lines += [f"hide #{i} models" for i in range(2, len(names) + 1)]
    path = folder / "open.cxc"
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, "view", ""]))
    return path


def write_latents(
    run_dir: Path,
    z: Float[np.ndarray, "particle latent"],
    z_std: Float[np.ndarray, "particle latent"],
    index: Int64[np.ndarray, " particle"],
    frame: Float[np.ndarray, "latent latent"] | None = None,
) -> Path:
    """Write ``latents.npz``, sorted by ``index``, the row of each particle in the input file.

    ``frame`` is where the decoder takes such latents from (:mod:`cryoem.decoders.framed`).
    """
    order = np.argsort(index, kind="stable")
    path = Path(run_dir) / "latents.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            z=z[order].astype(np.float32),
            z_std=z_std[order].astype(np.float32),
            index=index[order].astype(np.int64),
            frame=np.eye(z.shape[1], dtype=np.float32) if frame is None else frame,
        )
    return path


def resolution_entry(
    curve: FSCCurve, threshold: float, voxel_size: float, between: str, mask: str
) -> dict[str, Any]:
    """Return one resolution with all that it needs to mean something, for ``metrics.json``.

    Parameters
    ----------
    curve, threshold, voxel_size
        As :meth:`FSCCurve.resolution`.
    between
        What was compared: ``half-set volumes``, ``volume and truth``.
    mask
        ``none``, or which.
    """
    resolution = curve.resolution(threshold, voxel_size)
    return {
        "angstrom": resolution if np.isfinite(resolution) else None,
        "is_bound": curve.at_nyquist(threshold),
        "threshold": threshold,
        "between": between,
        "mask": mask,
        "mean_fsc": curve.mean(),
    }


def write_metrics(run_dir: Path, metrics: Mapping[str, Any]) -> Path:
    """Write ``metrics.json``: numbers named with their unit, and under ``resolution`` a list.

    The entries of that list are those of :func:`resolution_entry`. Numbers that are not finite
    become null, which is all that JSON has for them.
    """
    return _write_json(Path(run_dir) / "metrics.json", metrics)


def write_data_summary(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write ``data.json``: what :func:`cryoem.analysis.particle_facts.describe` says."""
    return _write_json(Path(run_dir) / "data.json", summary)


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n")
    return path


def plain(value: Any) -> Any:
    """Turn numpy numbers and arrays, tensors and paths into what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, int | str | bool | None) else str(value)


def write_figures(
    run_dir: Path,
    voxel_size: float,
    *,
    volume: Float[np.ndarray, "z y x"] | None = None,
    series: Float[np.ndarray, "volume z y x"] | None = None,
    curves: Mapping[str, FSCCurve] | None = None,
    z: Float[np.ndarray, "particle latent"] | None = None,
    series_latents: Float[np.ndarray, "volume latent"] | None = None,
    rotations: Float[np.ndarray, "particle 3 3"] | None = None,
    margin: Float[np.ndarray, " particle"] | None = None,
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> list[Path]:
    """Draw ``figures/*.png`` of everything given, and ``loss.png`` of the run's ``metrics.csv``.

    Parameters
    ----------
    run_dir, voxel_size
        The folder of the run; angstrom.
    volume, series
        One volume for slices and projections; several, in order, for the montage.
    curves
        Fourier shell correlations by name, which says what was compared and under which mask.
    z, series_latents
        Latents of the particles, and of the volumes of ``series``.
    rotations
        Of the particles.
    margin
        Of poses that were searched, nats.
    gallery
        The arguments of :func:`cryoem.figures.particle_gallery`.
    """
    drawn = {}
    if volume is not None:
        drawn["volume"] = figures.volume_slices(volume, voxel_size)
    if series is not None and len(series) > 1:
        drawn["motion"] = figures.volume_montage(series)
    if curves:
        drawn["fsc"] = figures.fsc_curve(curves, voxel_size)
    if z is not None:
        drawn["latents"] = _draw_latents(z, series_latents)
    if rotations is not None:
        drawn["poses"] = figures.pose_distribution(rotations)
    if margin is not None:
        drawn["margins"] = figures.pose_margins(margin)
    if gallery is not None:
        drawn["particles"] = figures.particle_gallery(*gallery)
    table = Path(run_dir) / "metrics.csv"
    if table.is_file():
        drawn["loss"] = figures.loss_curve(pd.read_csv(table))
    folder = Path(run_dir) / "figures"
    return [figures.save_figure(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def _draw_latents(z: np.ndarray, marks: np.ndarray | None) -> Figure:
    if z.shape[1] == 1:
        return figures.latent_histogram(z[:, 0], None if marks is None else marks[:, 0])
    return figures.latent_scatter(z, marks=marks)
