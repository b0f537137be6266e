"""How the values of a point become the command line of a training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from conf.checks import check
from conf.compose import compose
from cryoem.sweeps.space import Values


@dataclass(frozen=True)
class Recipe:
    """What all points of a sweep have in common.

    Parameters
    ----------
    name, folder
        Of the sweep.
    fixed
        By key: overrides of the command line, as they were written.
    also
        What comes with a value: lists of overrides by ``key=value``.
    trial
        Overrides that only the points have, not what is recommended: held-out particles, a cheap
        version of the data. The command line wins.
    """

    name: str
    folder: Path
    fixed: Mapping[str, str]
    also: Mapping[str, list[str]]
    trial: dict[str, str] = field(default_factory=dict)

    def of_point(self, number: int, values: Values) -> list[str]:
        """Overrides of a point, complete. The first one has the preflight for all."""
        run = self.folder / f"point_{number:03d}"
        others = {} if number == 1 else {"preflight": "false"}
        name = f"{self._flat_name}_{run.name}"
        return self._complete(values, {**others, **self.trial}, name, run)

    def of_best(self, values: Values) -> list[str]:
        """Overrides of the training that is recommended: all of the data."""
        name = f"{self._flat_name}_best"
        return self._complete(values, {}, name, Path("runs") / name)

    @property
    def _flat_name(self) -> str:
        return self.name.replace("/", "_")

    def _complete(
        self, values: Values, others: Mapping[str, str], name: str, folder: Path
    ) -> list[str]:
        lines = {**self.fixed, **_written(values)}
        extra = [other for line in lines.values() for other in self.also.get(line, ())]
        with_values = {other.partition("=")[0]: other for other in extra}
        chosen = {**_written(others), **with_values, **lines}
        return [*chosen.values(), f"name={name}", f"output_dir={folder}"]


def _written(values: Mapping[str, str]) -> dict[str, str]:
    return {key: f"{key}={value}" for key, value in values.items()}


def checked(overrides: list[str]) -> DictConfig:
    """The configuration of a training, composed, resolved and checked.

    Raises
    ------
    InputError
        If anything is wrong with it.
    """
    return check(compose(overrides))
