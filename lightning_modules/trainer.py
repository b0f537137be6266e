"""Lightning's trainer with what ours can do besides."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from lightning_modules.compiled import CompileNetworks
from lightning_modules.tune import Tune


def make_trainer(
    *,
    callbacks: Sequence[pl.Callback] = (),
    compile: bool = False,
    tune: bool = False,
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
    """
    extra = [*([CompileNetworks()] if compile else []), *([Tune()] if tune else [])]
    return pl.Trainer(callbacks=[*callbacks, *extra], **options)
