"""Where the processes of a run come from, if Lightning should not find out by itself."""

import warnings

from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    SLURMEnvironment,
    TorchElasticEnvironment,
)


def cluster() -> list[SLURMEnvironment]:
    """SLURM's environment without Lightning's own checkpoint and requeueing.

    Those would save under another name, in the middle of a step; a run here saves one checkpoint,
    after a step, and its exit status tells the batch script that it can go on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice to use srun comes once, from Lightning
        under_slurm = not TorchElasticEnvironment.detect() and SLURMEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if under_slurm else []
