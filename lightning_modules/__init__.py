"""Lightning modules: one training step each, written as in the method section of a paper."""

from lightning_modules.hetero import HeteroReconstruction as HeteroReconstruction
from lightning_modules.homo import HomoReconstruction as HomoReconstruction
from lightning_modules.trainer import make_trainer as make_trainer
