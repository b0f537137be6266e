"""Lightning's trainer with what ours can do besides."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from lightning_modules.compiled import CompileNetworks


def make_trainer(
    *, callbacks: Sequence[pl.Callback] = (), compile: bool = False, **options: Any
) -> pl.Trainer:
    """Build a trainer.

    Parameters
    ----------
    callbacks, **options
        As ``pytorch_lightning.Trainer`` takes them.
    compile
        Whether to compile the networks.
    """
    extra = [CompileNetworks()] if compile else []
    return pl.Trainer(callbacks=[*callbacks, *extra], **options)
