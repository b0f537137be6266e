"""What an earlier run in the same folder means for a new one."""

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from conf.stored import load_stored
from cryoem.errors import InputError

log = logging.getLogger("train")
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
# What may change between two parts of one run: how long, where and how fast, not what.
FREE = (
    "resume",
    "preflight",
    "name",
    "output_dir",
    "logger",
    "callbacks",
    "data.num_workers",
    "data.placement",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.use_distributed_sampler",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.max_epochs",
    "trainer.max_time",
)


@dataclass(frozen=True)
class Start:
    """How a run begins: afresh, ``over`` an earlier one, from a checkpoint, or not at all.

    ``again``: the earlier one was this very run, stopped before its first checkpoint.
    """

    checkpoint: Path | None = None
    over: bool = False
    again: bool = False
    finished: bool = False


def plan(config: DictConfig) -> Start:
    """Decide how to begin in ``config.output_dir``; reads, never writes.

    Raises
    ------
    InputError
        If ``resume=must`` and there is nothing, or the earlier run was another experiment.
    """
    folder = Path(config.output_dir)
    last, previous = (folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    over = any(path.is_file() for path in (folder / "config.yaml", last, previous))
    if config.resume == "never":
        return Start(over=over)
    if not last.is_file() and not previous.is_file():
        if config.resume == "must":
            raise InputError(
                f"resume=must: there is no {last}.\nCheck name= or output_dir=, or drop resume=must"
            )
        return Start(over=over, again=over and not _difference(config, folder))
    difference = _difference(config, folder)
    if difference:
        raise InputError(
            f"{folder} {difference}.\n"
            "Choose another name=, or resume=never to start over in this folder"
        )
    if finished_epochs(folder) >= config.trainer.max_epochs:
        return Start(finished=True)
    return Start(newest_whole(folder / "checkpoints"))


def newest_whole(checkpoints: Path) -> Path:
    """The last checkpoint, or the one before if that is damaged or gone.

    Raises
    ------
    InputError
        If both are.
    """
    last, previous = checkpoints / LAST, checkpoints / PREVIOUS
    if _is_whole(last):
        return last
    if _is_whole(previous):
        log.warning("%s is damaged; going on from the one before it, %s", last, previous)
        return previous
    raise InputError(
        f"{last} is damaged, and there is no good {PREVIOUS} beside it.\n"
        "resume=never starts over in this folder"
    )


def _is_whole(checkpoint: Path) -> bool:
    """Whether every part of the archive has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def finished_epochs(folder: Path) -> int:
    """Epochs of the run that ended properly in ``folder``; 0 if none did."""
    file = folder / "metrics.json"
    return int(json.loads(file.read_text())["epochs"]) if file.is_file() else 0


def _difference(config: DictConfig, folder: Path) -> str:
    """What makes the run in a folder another experiment; nothing if it is the same."""
    file = folder / "config.yaml"
    if not file.is_file():
        return "holds a checkpoint but no config.yaml"
    old = _flat(load_stored(file, config.output_dir))
    new = _flat(OmegaConf.to_container(config))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not _is_free(key):
            return f"is a run with {key}={old.get(key)}, not {new.get(key)}"
    return ""


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    if not isinstance(node, dict):
        return {prefix: node}
    pairs = (_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
    return {key: value for part in pairs for key, value in part.items()}
