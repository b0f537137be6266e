"""Which point comes next: all of a grid, or what Optuna proposes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cryoem.errors import InputError
from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, Point
from cryoem.sweeps.space import Choices, Interval, Space, Values, grid, typed

if TYPE_CHECKING:
    import optuna

_POINT = "point"
_MOST_REPEATS = 50
_WITHOUT_PRUNING = 4  # points that run to their end before any is compared with them
_EPOCHS_WITHOUT_PRUNING = 2


@runtime_checkable
class Sampler(Protocol):
    """Proposes points and learns from them. Asked the same again, it answers the same."""

    def ask(self, number: int) -> Values | None:
        """The values of a point; None if there are no more."""
        ...

    def is_hopeless(self, number: int, so_far: dict[int, float]) -> bool:
        """Whether a running point should stop, from its objective by epoch."""
        ...

    def tell(self, point: Point) -> None:
        """Take note of how a point ended."""
        ...


class Grid:
    """Every combination once; none is stopped, for one wants to see them all."""

    def __init__(self, space: Space) -> None:
        self.points = grid(space)

    def ask(self, number: int) -> Values | None:
        """In the order of the keys."""
        return self.points[number - 1] if number <= len(self.points) else None

    def is_hopeless(self, number: int, so_far: dict[int, float]) -> bool:
        """Never."""
        return False

    def tell(self, point: Point) -> None:
        """Nothing to learn."""


class Optuna:
    """Random points, or those of a tree-structured Parzen estimator (Bergstra et al., 2011).

    Its memory is a journal of JSON lines, so a sweep goes on with all that it has learnt. A point
    is hopeless if its best value so far is worse than the median of the others at that epoch.

    Parameters
    ----------
    journal
        File, made if it is missing.
    space
        What is varied.
    kind
        ``random`` or ``tpe``.
    trials
        Number of points.
    maximise, prune, seed
        Direction of the objective; whether to stop hopeless points; of what is drawn.
    """

    def __init__(
        self,
        journal: Path,
        space: Space,
        kind: str,
        trials: int,
        *,
        maximise: bool,
        prune: bool,
        seed: int = 0,
    ) -> None:
        self._optuna = optuna = _import_optuna()
        self.trials, self.kind, self.seed = trials, kind, seed
        self.space = space
        self.distributions = {key: _distribution(optuna, axis) for key, axis in space.items()}
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        self.study = optuna.create_study(
            study_name="sweep",
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize" if maximise else "minimize",
            pruner=optuna.pruners.MedianPruner(_WITHOUT_PRUNING, _EPOCHS_WITHOUT_PRUNING)
            if prune
            else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def ask(self, number: int) -> Values | None:
        """The values that it was asked for before, or new ones that no other point has."""
        if number > self.trials:
            return None
        trial = self._trial(number)
        return self._new(number) if trial is None else self._values(trial.params)

    def is_hopeless(self, number: int, so_far: dict[int, float]) -> bool:
        """Report what is new, and ask the pruner."""
        known = self._trial(number)
        if known is None or known.state.is_finished():
            return False
        trial = self._optuna.trial.Trial(self.study, known._trial_id)
        for epoch in sorted(so_far.keys() - known.intermediate_values.keys()):
            trial.report(so_far[epoch], epoch)
        return bool(trial.should_prune())

    def tell(self, point: Point) -> None:
        """Take note, unless that was done before."""
        trial = self._trial(point.number)
        if trial is None or trial.state.is_finished():
            return
        states = self._optuna.trial.TrialState
        state = {FINISHED: states.COMPLETE, PRUNED: states.PRUNED, FAILED: states.FAIL}
        value = point.objective if point.state == FINISHED else None
        self.study.tell(trial.number, value, state=state[point.state])

    def _new(self, number: int) -> Values:
        """A repeated proposal gets the known answer, which moves the sampler on."""
        optuna = self._optuna
        for attempt in range(_MOST_REPEATS):
            self.study.sampler = self._sampler()
            trial = self.study.ask(self.distributions)
            before = [
                other
                for other in self.study.get_trials(deepcopy=False)
                if other.number != trial.number and other.params == trial.params
            ]
            if not before or attempt == _MOST_REPEATS - 1:
                break
            done = [t for t in before if t.state is optuna.trial.TrialState.COMPLETE]
            if done:
                self.study.tell(trial, done[0].value)
            else:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        trial.set_user_attr(_POINT, number)
        return self._values(trial.params)

    def _sampler(self) -> "optuna.samplers.BaseSampler":
        """A new one each time: with the seed alone, a sweep that goes on would repeat itself."""
        seed = self.seed * 1_000_003 + len(self.study.get_trials(deepcopy=False))
        if self.kind == "random":
            return self._optuna.samplers.RandomSampler(seed)
        n_random = max(3, min(10, self.trials // 3))
        return self._optuna.samplers.TPESampler(
            n_startup_trials=n_random, constant_liar=True, seed=seed
        )

    def _trial(self, number: int) -> "optuna.trial.FrozenTrial | None":
        trials = self.study.get_trials(deepcopy=False)
        return next((t for t in trials if t.user_attrs.get(_POINT) == number), None)

    def _values(self, params: dict[str, Any]) -> Values:
        found = {}
        for key, axis in self.space.items():
            value = params[key]
            found[key] = typed(axis, float(value)) if isinstance(axis, Interval) else str(value)
        return found


def _distribution(optuna: Any, axis: Choices | Interval) -> Any:
    if isinstance(axis, Choices):
        return optuna.distributions.CategoricalDistribution(axis.values)
    if axis.whole:
        low, high = round(axis.low), round(axis.high)
        return optuna.distributions.IntDistribution(low, high, log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _import_optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise InputError(
            "hparams.sampler needs Optuna.\nInstall it: pip install 'cryoem[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
