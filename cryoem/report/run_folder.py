"""What lies in the folder of a run, read as far as it is there."""

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cryoem.errors import InputError
from cryoem.io.mrc import MrcHeader, read_mrc_header

STARTS_OVER = "starting over in the folder of an earlier run"  # in run.log
# py.warnings: what libraries say to programmers.
_LOGGED = re.compile(r"\b(WARNING|ERROR|CRITICAL) (?!py\.warnings).*")


@dataclass(frozen=True)
class RunFolder:
    """The parts of a run; None or empty where missing. ``problems`` names unreadable parts."""

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    history: pd.DataFrame | None
    data: dict[str, Any]
    volumes: list[MrcHeader]
    volume_latents: pd.DataFrame | None
    latents: dict[str, np.ndarray]
    figures: list[Path]
    checkpoints: list[Path]
    log_warnings: list[str]
    signals: list[dict[str, str]]
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.config.get("name") or self.path.resolve().name)

    @property
    def finished_epochs(self) -> int | None:
        """Epochs of which the history has the means, which are logged when an epoch ends."""
        if self.history is None or "epoch" not in self.history:
            return None
        means = [name for name in self.history if str(name).startswith("epoch_")]
        return int(self.history.loc[self.history[means].notna().any(axis=1), "epoch"].nunique())

    @property
    def planned_epochs(self) -> int | None:
        """``trainer.max_epochs`` of the configuration."""
        return (self.config.get("trainer") or {}).get("max_epochs")


def read_run_folder(path: str | Path) -> RunFolder:
    """Read the folder of a run.

    Raises
    ------
    InputError
        If it is no folder, or neither ``config.yaml`` nor ``checkpoints`` is in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give the folder of a run, such as runs/NAME")
    if not (path / "config.yaml").is_file() and not (path / "checkpoints").is_dir():
        raise InputError(f"{path}: not a run folder, it has neither config.yaml nor checkpoints/")
    problems: list[str] = []
    volumes = _each(sorted((path / "volumes").glob("*.mrc")), read_mrc_header, problems)
    return RunFolder(
        path=path,
        config=_read(path / "config.yaml", _yaml, problems) or {},
        metrics=_read(path / "metrics.json", _json, problems) or {},
        history=_read(path / "metrics.csv", pd.read_csv, problems),
        data=_read(path / "data.json", _json, problems) or {},
        volumes=volumes,
        volume_latents=_read(path / "volumes" / "volumes.csv", pd.read_csv, problems),
        latents=_read(path / "latents.npz", _npz, problems) or {},
        figures=sorted((path / "figures").glob("*.png")),
        checkpoints=sorted((path / "checkpoints").glob("*.ckpt")),
        log_warnings=_read(path / "run.log", _warnings, problems) or [],
        signals=_read(path / "signals.json", _signals, problems) or [],
        problems=problems,
    )


def _read(path: Path, read: Any, problems: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, zipfile.BadZipFile) as error:
        problems.append(f"{path}: cannot be read ({str(error).splitlines()[0]})")
        return None


def _each(paths: list[Path], read: Any, problems: list[str]) -> list[Any]:
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except InputError as error:
            problems.append(str(error))
    return found


def _yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("it holds no keys")
    return content


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("it holds no keys")
    return content


def _signals(path: Path) -> list[dict[str, str]]:
    content = json.loads(path.read_text())
    return [{name: str(signal[name]) for name in ("name", "level", "text")} for signal in content]


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _warnings(path: Path) -> list[str]:
    """Return the last twenty different warnings and errors of the log, without their times.

    Those since the run last began afresh.
    """
    found: list[str] = []
    with path.open(errors="replace") as lines:
        for line in lines:
            if line.rstrip().endswith(STARTS_OVER):
                found = []
            elif match := _LOGGED.search(line):
                found.append(match[0])
    return list(dict.fromkeys(found))[-20:]
