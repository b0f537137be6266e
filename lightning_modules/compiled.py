"""Networks compiled: what lies between their matrix products becomes one kernel each."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import nn

from cryoem.decoders.base import LinearDecoder
from lightning_modules.base import Reconstruction


class CompileNetworks(pl.Callback):
    """Compiles decoders and encoder in place when a training starts.

    Encoding, layers and the flip to half space become one region from coordinates to values. Names
    of the weights stay as they are, so that checkpoints fit with and without.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile; the first step of each size of batch then takes its time."""
        if not isinstance(pl_module, Reconstruction):
            return
        encoder = getattr(pl_module, "encoder", None)
        networks: list[Any] = [*pl_module.decoders, *([] if encoder is None else [encoder])]
        for network in networks:
            cast(nn.Module, network).compile()
            if isinstance(network, LinearDecoder):  # what a step asks for instead of a call
                network.basis = torch.compile(network.basis)  # type: ignore[method-assign]
