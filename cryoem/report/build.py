"""A run folder becomes one page: figures inlined, nothing fetched from anywhere."""

import datetime
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cryoem.report.captions import caption, in_reading_order
from cryoem.report.headline import headline, other_numbers
from cryoem.report.page import inline_png, write_page
from cryoem.report.run_folder import RunFolder, read_run_folder

_PACKAGES = ("cryoem", "torch", "pytorch-lightning", "hydra-core", "numpy", "matplotlib")


def build_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` into the folder of a run, from what is there, and return its path.

    Raises
    ------
    InputError
        If the folder is not that of a run.
    """
    run = read_run_folder(run_dir)
    path = run.path / "report.html"
    write_page("report.html", contents(run), path)
    return path


def contents(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows."""
    return {
        "name": run.name,
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "folder": str(run.path),
        "headline": headline(run),
        "numbers": other_numbers(run),
        "data": data_rows(run.data),
        "origin": {
            key: text.replace(",", ", ") for key, text in run.data.get("origin", {}).items()
        },
        "warnings": warnings(run),
        "signals": [signal["text"] for signal in run.signals if signal["level"] != "warning"],
        "figures": [inline_figure(path) for path in in_reading_order(run.figures)],
        "volumes": volume_rows(run),
        "latent_names": _latent_names(run),
        "volume_folder": str((run.path / "volumes").resolve()),
        "has_script": (run.path / "volumes" / "open.cxc").is_file(),
        "checkpoints": [(p.name, f"{p.stat().st_size / 1e6:.1f} MB") for p in run.checkpoints],
        "command": f"python train.py --config-dir {run.path} --config-name config",
        "config": yaml.safe_dump(run.config, sort_keys=False) if run.config else "",
        "versions": versions(),
    }


def warnings(run: RunFolder) -> list[str]:
    """Return all that a reader should know before believing the page."""
    found = list(run.problems)
    done, planned = run.finished_epochs, run.planned_epochs
    if done is not None and planned is not None and 0 < done < planned:
        found.append(f"The run has {done} of {planned} epochs: the same command goes on with it.")
    z = run.latents.get("z")
    if z is not None and not np.isfinite(z).all():
        rows = int((~np.isfinite(z).all(axis=1)).sum())
        found.append(f"{rows} of {len(z)} latents are not finite: the training diverged.")
    found += [signal["text"] for signal in run.signals if signal["level"] == "warning"]
    found += [str(note) for note in run.data.get("warnings", [])]
    found += [str(note) for note in run.data.get("notes", [])]
    return found + run.log_warnings


def data_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return ``data.json`` as label and text, without what has its own place on the page."""
    rows = {key: value for key, value in data.items() if key not in ("origin", "notes", "warnings")}
    for key, value in (rows.pop("ctf", None) or {}).items():
        rows[f"ctf {key}"] = value
    return [(_label(key), _text(value)) for key, value in rows.items() if value is not None]


def _label(key: str) -> str:
    words = key.replace("_", " ").replace(" angstrom2", " (Å²)").replace(" angstrom", " (Å)")
    for unit in ("degrees", "kilovolts", "pixels", "mm"):
        words = words.removesuffix(f" {unit}") + (
            f" ({unit})" if words.endswith(f" {unit}") else ""
        )
    return words.replace("n particles", "particles")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(item, float) for item in value):  # a range
        return " to ".join(dict.fromkeys(_text(item) for item in value))
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)


def volume_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Return one row per map: name, box, voxel size and its latent where it has one."""
    table = run.volume_latents
    latents = {} if table is None else table.set_index("volume").to_dict("index")
    names = _latent_names(run)
    return [
        {
            "name": header.path.name,
            "box": f"{header.width} x {header.height} x {header.n_images}",
            "voxel": f"{header.pixel_size_angstrom:.4g} Å" if header.pixel_size_angstrom else "",
            "latent": [f"{latents.get(header.path.name, {}).get(n, np.nan):.3f}" for n in names],
        }
        for header in run.volumes
    ]


def _latent_names(run: RunFolder) -> list[str]:
    table = run.volume_latents
    if table is None or "volume" not in table:
        return []
    return [str(name) for name in table.columns if name != "volume" and str(name).startswith("z")]


def inline_figure(path: Path) -> dict[str, str]:
    """Return what the page needs of a figure: its pixels too."""
    title, text = caption(path.stem)
    return {"name": path.stem, "title": title, "caption": text, **inline_png(path.read_bytes())}


def versions() -> list[tuple[str, str]]:
    """Return the versions of what made the page."""
    found = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found
