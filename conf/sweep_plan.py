"""What the command line of a sweep asks for, checked before anything is written."""

from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from conf.compose import compose, resolve
from conf.points import Recipe, checked
from conf.space import space_of, split
from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path
from cryoem.sweeps.objective import Objective
from cryoem.sweeps.space import Interval, Space, corners, grid

OWN = ("name", "hparams", "objective", "cluster")
SAMPLERS = ("grid", "random", "tpe")
EXECUTORS = ("processes", "slurm", "local", "wandb")
FREE = ("trials", "prune")  # may change when a sweep goes on


def is_own(override: str) -> bool:
    """Whether an override is of the sweep and not of its trainings."""
    key = override.partition("=")[0].lstrip("+~")
    return key in OWN or key.startswith(tuple(f"{own}." for own in OWN))


class SweepPlan:
    """What is varied, what ranks the points, and how a point becomes a training.

    A key of the space that the command line gives values has those.

    Raises
    ------
    InputError
        If anything is wrong with it; every point of a grid is composed and checked.
    """

    def __init__(self, overrides: list[str]) -> None:
        self.own = [override for override in overrides if is_own(override)]
        self.config: DictConfig = resolve(compose(self.own, "sweep"))
        hparams, objective = self.config.hparams, self.config.objective
        fixed, axes = split([override for override in overrides if not is_own(override)])
        prepared = space_of(dict(hparams.space))
        self.space: Space = {k: v for k, v in prepared.items() if k not in fixed} | axes
        self.sampler: str = hparams.sampler if self.space else "grid"
        self.objective = Objective(objective.metric, objective.column, objective.maximise)
        self.folder = Path("sweeps") / self.config.name
        self.recipe = Recipe(
            name=self.config.name,
            folder=self.folder,
            fixed=fixed,
            also={line: list(others) for line, others in hparams.also.items()},
            trial=dict(line.split("=", 1) for line in objective.overrides),
        )
        self._check_own()
        for values in grid(self.space) if self.sampler == "grid" else corners(self.space):
            checked(self.recipe.of_point(1, values))

    @cached_property
    def full(self) -> DictConfig:
        """The configuration of a training on all data, with the first value of each key."""
        return checked(self.recipe.of_best(corners(self.space)[0]))

    def remember(self) -> None:
        """Write ``sweep.yaml``, or compare with it.

        Raises
        ------
        InputError
            If the folder holds another sweep.
        """
        file, now = self.folder / "sweep.yaml", self._identity()
        if not file.is_file():
            with atomic_path(file) as temporary:
                temporary.write_text(yaml.safe_dump(now, sort_keys=False))
            return
        before = yaml.safe_load(file.read_text())
        for key in now:
            if before.get(key) != now[key]:
                raise InputError(
                    f"{self.folder} is a sweep with {key} {before.get(key)}, not {now[key]}.\n"
                    "Choose another name=, or remove the folder to start over"
                )

    def _identity(self) -> dict[str, Any]:
        """What must not change when a sweep goes on."""
        hparams: Any = OmegaConf.to_container(self.config.hparams)
        return {
            "hparams": {key: value for key, value in hparams.items() if key not in FREE},
            "space": {key: str(axis) for key, axis in self.space.items()},
            "objective": OmegaConf.to_container(self.config.objective),
            "overrides": sorted(self.recipe.fixed.values()),
        }

    def _check_own(self) -> None:
        executor, hparams = self.config.cluster.executor, self.config.hparams
        for key, value, choices in (
            ("hparams.sampler", hparams.sampler, SAMPLERS),
            ("cluster.executor", executor, EXECUTORS),
        ):
            if value not in choices:
                raise InputError(f"{key}={value}: must be one of {', '.join(choices)}")
        for key, number in (
            ("cluster.parallel", self.config.cluster.parallel),
            ("hparams.trials", 1 if self.sampler == "grid" else hparams.trials),
        ):
            if number is None or number < 1:
                raise InputError(f"{key}={number}: must be a whole number, at least 1")
        intervals = [key for key, axis in self.space.items() if isinstance(axis, Interval)]
        if self.sampler == "grid" and intervals:
            raise InputError(
                f"{intervals[0]} is an interval, and a grid needs single values; "
                "add hparams=random, hparams=optuna or hparams.sampler=tpe hparams.trials=20"
            )
