"""The folder of a run: its log, its configuration, and no trace of one that could not start."""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from conf.launch import is_first
from conf.resume import LAST, PREVIOUS
from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path

PREFLIGHT = "preflight.html"
RESULTS = (PREFLIGHT, "volumes", "figures", "report.html")
# What trainings write besides their log, which is a history, and the data they simulate.
PRODUCTS = (
    f"checkpoints/{LAST}",
    f"checkpoints/{PREVIOUS}",
    "metrics.csv",
    "metrics.json",
    "data.json",
    "signals.json",
    "suspicious.csv",
    "divergence.csv",
    "latents.npz",
    "particles.star",
    "volumes",
    "figures",
    "report.html",
    "tensorboard",
    "wandb",
    "wandb.json",
)


def log_to_console() -> None:
    """Show on stdout what this project says and others warn of; the rest is for ``run.log``.

    Of several processes only the first says what all would say.
    """
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(_is_for_the_user)
    if not is_first():
        console.setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.INFO, handlers=[console])
    logging.captureWarnings(True)


def _is_for_the_user(record: logging.LogRecord) -> bool:
    package = record.name.partition(".")[0]
    ours = package in ("train", "cryoem", "datamodules", "lightning_modules")
    return ours or (record.levelno >= logging.WARNING and record.name != "py.warnings")


class _RunLog(logging.FileHandler):
    """A log that a full disk cuts short: what matters fails by itself, and says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record, without a traceback on stderr."""

    def close(self) -> None:
        """Close, whether or not the last lines can still be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Append to ``folder/run.log`` what any library logs, from the level INFO on.

    One process does, or every line would be there once for each.
    """
    if not is_first():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handler = _RunLog(folder / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Make ``folder``; if the block fails, remove it again, with the parents that were made.

    The first process does; the others may still be reading what it has made.
    """
    if not is_first():
        yield
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if missing:
            shutil.rmtree(missing[-1])
        raise


def refuse_to_remove_inputs(folder: Path, config: DictConfig) -> None:
    """See that starting over would not remove a file that the run is to read.

    Raises
    ------
    InputError
        If it would.
    """
    products = [(folder / name).resolve() for name in PRODUCTS]
    named = {"ckpt_path": config.ckpt_path}
    named |= {f"data.{key}": value for key, value in config.data.items()}
    for key, value in named.items():
        if not isinstance(value, str) or not value:
            continue
        path = Path(value).resolve()
        if any(path.is_relative_to(product) for product in products):
            raise InputError(
                f"{key}={value}: starting over in {folder} would remove it.\n"
                "Give the new run another name or output_dir, or keep a copy of the file elsewhere"
            )


def begin(folder: Path, config: DictConfig, checkpoint: Path | None) -> None:
    """Write ``config.yaml``; starting afresh, drop all that an earlier run has left.

    The page of a preflight since then stays.
    """
    last, page, stored = folder / "checkpoints" / LAST, folder / PREFLIGHT, folder / "config.yaml"
    if checkpoint is None:
        for name in PRODUCTS:
            _remove(folder / name)
        if page.is_file() and stored.is_file() and page.stat().st_mtime < stored.stat().st_mtime:
            page.unlink()
    elif checkpoint != last:  # that one is damaged, and must not become the one before
        with atomic_path(last) as path:
            shutil.copyfile(checkpoint, path)
    with atomic_path(stored) as path:
        OmegaConf.save(config, path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def results(folder: Path) -> str:
    """Where to look, one line each."""
    found = [name for name in RESULTS if (folder / name).exists()]
    return "\n".join(f"  {name.partition('.')[0]:9s} {folder / name}" for name in found)
