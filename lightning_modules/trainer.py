"""Lightning's trainer with what ours can do besides."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from lightning_modules.compiled import CompileNetworks
from lightning_modules.tune import Tune


def make_trainer(
    *,
    callbacks: Sequence[pl.Callback] = (),
    compile: bool = False,
    tune: bool = False,
    strategy: str = "auto",
    **options: Any,
) -> pl.Trainer:
    """Build a trainer.

    Parameters
    ----------
    callbacks, **options
        As ``pytorch_lightning.Trainer`` takes them.
    compile
        Whether to compile the networks.
    tune
        Whether to measure in how many parts a batch is best taken.
    strategy
        As Lightning's, but ``ddp`` leaves the buffers alone: they are the same on every device from
        the start, and every step would send grids and lattices around.
    """
    chosen = DDPStrategy(broadcast_buffers=False) if strategy == "ddp" else strategy
    extra = [*([CompileNetworks()] if compile else []), *([Tune()] if tune else [])]
    return pl.Trainer(callbacks=[*callbacks, *extra], strategy=chosen, **options)
