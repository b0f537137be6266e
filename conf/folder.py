"""The folder of a run: its log, its configuration, and no trace of one that could not start."""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from conf.launch import is_first
from conf.resume import LAST, Start
from conf.start_over import remove_products
from cryoem.io.atomic import atomic_path

RESULTS = ("preflight.html", "volumes", "figures", "report.html")


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


def begin(folder: Path, config: DictConfig, start: Start) -> None:
    """Write ``config.yaml``; what an earlier run has left goes if this one starts ``over`` it."""
    last = folder / "checkpoints" / LAST
    if start.over:
        remove_products(folder, again=start.again)
    elif start.checkpoint not in (
        None,
        last,
    ):  # that one is damaged, and must not be the one before
        with atomic_path(last) as path:
            shutil.copyfile(start.checkpoint, path)
    with atomic_path(folder / "config.yaml") as path:
        OmegaConf.save(config, path)


def results(folder: Path) -> str:
    """Where to look, one line each."""
    found = [name for name in RESULTS if (folder / name).exists()]
    return "\n".join(f"  {name.partition('.')[0]:9s} {folder / name}" for name in found)
