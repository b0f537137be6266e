"""Random states in the checkpoint, so that a resumed run draws the same numbers."""

import pytorch_lightning as pl


class RandomState(pl.Callback):
    """Saves and restores the states of torch, numpy and python."""
