"""Where pictures, numbers and sentences go while a model trains: files and whatever loggers.

A picture is drawn once, as a file; TensorBoard and W&B get that file. Steps are counted from 0, as
Lightning does for the loggers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from cryoem.figures import save_figure
from cryoem.signals import Signal, write_signals

_LIVE = ("train/", "live/")  # what the loggers have already


def show(
    figures: Mapping[str, Figure], folder: Path, loggers: Iterable[Logger], step: int
) -> list[Path]:
    """Write ``figures/NAME.png``, and send each to the loggers as ``panels/NAME``."""
    paths = [save_figure(figure, folder / "figures" / f"{n}.png") for n, figure in figures.items()]
    send(paths, loggers, step)
    return paths


def send(pictures: Iterable[Path], loggers: Iterable[Logger], step: int) -> None:
    """Send pictures that are files already."""
    loggers = list(loggers)
    for path in pictures:
        key = f"panels/{path.stem}"
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(key, [str(path)], step)
            elif isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(key, pixels, step, dataformats="HWC")


def tell(signals: list[Signal], folder: Path, loggers: Iterable[Logger], step: int) -> None:
    """Write ``signals.json``, and send the sentences to the loggers."""
    write_signals(folder, signals)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({f"signals/{s.name}": s.text for s in signals})
        elif isinstance(logger, TensorBoardLogger):
            text = "\n\n".join(f"**{s.level}** {s.text}" for s in signals)
            logger.experiment.add_text("signals", text, step)


def send_final(numbers: Mapping[str, Any], loggers: Iterable[Logger], step: int) -> None:
    """Send the numbers of ``metrics.json`` as ``final/NAME``."""
    final = {
        name: float(value)
        for name, value in numbers.items()
        if isinstance(value, int | float) and not name.startswith(_LIVE)
    }
    for entry in numbers["resolution"]:
        if entry["angstrom"] is not None:
            final[f"resolution_angstrom, {entry['between']}, mask {entry['mask']}"] = entry[
                "angstrom"
            ]
    for logger in loggers:
        logger.log_metrics({f"final/{name}": value for name, value in final.items()}, step)
