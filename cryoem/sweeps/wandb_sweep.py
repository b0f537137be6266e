"""The description of a sweep for Weights & Biases, whose agents then run the points."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cryoem.io.atomic import atomic_path
from cryoem.sweeps.objective import Objective
from cryoem.sweeps.space import Choices, Interval, Space

_METHODS = {"grid": "grid", "random": "random", "tpe": "bayes"}


def write_wandb_sweep(
    path: Path,
    name: str,
    space: Space,
    objective: Objective,
    sampler: str,
    trials: int | None,
    command: Sequence[str],
) -> None:
    """Write what ``wandb sweep FILE`` reads.

    Parameters
    ----------
    path, name
        Of the file, of the sweep.
    space, objective, sampler, trials
        As in ``conf/hparams``; where that has a tree-structured Parzen estimator, W&B has Bayesian
        optimisation of its own.
    command
        Program and arguments of an agent; it appends the values.
    """
    content: dict[str, Any] = {
        "name": name,
        "project": "cryoem",
        "program": command[0],
        "method": _METHODS[sampler],
        "metric": {
            "name": objective.metric,
            "goal": "maximize" if objective.maximise else "minimize",
        },
        "parameters": {key: _parameter(axis) for key, axis in space.items()},
        "command": ["${env}", sys.executable, *command, "${args_no_hyphens}"],
    }
    if trials is not None and sampler != "grid":
        content["run_cap"] = trials
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))


def _parameter(axis: Choices | Interval) -> dict[str, Any]:
    if isinstance(axis, Choices):
        return {"values": [_typed(value) for value in axis.values]}
    low, high = (round(axis.low), round(axis.high)) if axis.whole else (axis.low, axis.high)
    kind = "log_uniform_values" if axis.log else "int_uniform" if axis.whole else "uniform"
    if axis.log and axis.whole:
        kind = "q_log_uniform_values"
    return {"distribution": kind, "min": low, "max": high}


def _typed(value: str) -> Any:
    return yaml.safe_load(value)
