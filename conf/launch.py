"""Who this process is among those that a launcher has started."""

import os


def is_first() -> bool:
    """Whether this process writes the files that all share."""
    for name in ("RANK", "SLURM_PROCID"):  # torchrun's, srun's
        if name in os.environ:
            return os.environ[name] == "0"
    # those that the first process of a machine starts itself
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))


def machines() -> int:
    """On how many machines a launcher has started processes; 0 if none did."""
    return _number("GROUP_WORLD_SIZE", "SLURM_NNODES")


def devices_per_machine() -> int:
    """How many processes a launcher has started on each machine, one for each device."""
    per_machine = _number("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE")
    return per_machine or max(_number("SLURM_NTASKS") // max(machines(), 1), 1)


def _number(*names: str) -> int:
    """The first of these variables that is set."""
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
