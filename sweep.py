"""Run many trainings, each in its own process: ``python sweep.py hparams=latent_dim``.

``hparams`` names a space: a grid, or points that Optuna proposes. A key with several values,
``key=a,b`` or ``key=tag(log,interval(0.1,10))``, adds to it or replaces its values. ``objective``
says what ranks the points, ``cluster`` where they run (``cluster.parallel=2``), ``name`` is the
sweep's; everything else goes to ``train.py``. The same command goes on where it stopped.
"""

import fcntl
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conf.compose import parse
from conf.folder import log_to_console, logged
from conf.points import checked
from conf.sweep_outcome import time_of_best, write_agents, write_best, write_page
from conf.sweep_parts import make_sampler, make_workers, prepare
from conf.sweep_plan import SweepPlan
from cryoem.errors import InputError
from cryoem.sweeps.leaderboard import best, write_leaderboard
from cryoem.sweeps.points import FAILED, Point, load_points
from cryoem.sweeps.run import Sweep

TRAIN = Path(__file__).with_name("train.py")
PAGE_EVERY_S = 60.0
log = logging.getLogger("cryoem.sweep")


def sweep(plan: SweepPlan) -> int:
    """Run every point that has not ended, and rank them; returns the exit status."""
    with locked(plan.folder), logged(plan.folder):
        plan.remember()
        points = load_points(plan.folder / "points.json")
        n_particles = prepare(plan)
        workers = make_workers(plan)
        notes: list[str] = []
        shown_at = -PAGE_EVERY_S

        def show() -> None:
            nonlocal shown_at
            write_leaderboard(plan.folder, points, plan.objective)
            if time.monotonic() - shown_at > PAGE_EVERY_S:
                write_page(plan, points, notes)
                shown_at = time.monotonic()

        def command(point: Point) -> list[str]:
            overrides = plan.recipe.of_point(point.number, point.values)
            checked(overrides)
            return [sys.executable, str(TRAIN), *overrides]

        sampler = make_sampler(plan)
        Sweep(plan.folder, points, sampler, plan.objective, workers, command, show).run()
        first = best(points, plan.objective)
        if first is not None:
            write_best(plan, first)
            if plan.config.hparams.subset is not None:
                notes.append(time_of_best(plan, first, workers, TRAIN, n_particles))
                log.info(notes[0])
        write_leaderboard(plan.folder, points, plan.objective)
        write_page(plan, points, notes)
        for name in ("leaderboard.csv", "best.yaml", "sweep.html"):
            if (plan.folder / name).is_file():
                print(f"  {name:16s} {plan.folder / name}")
        return int(bool(points.in_state(FAILED)))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one that works in a folder.

    Raises
    ------
    InputError
        If another sweep does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another sweep.py runs there; choose another name="
            ) from None
        yield


def interrupted(number: int, frame: Any) -> None:
    """SIGTERM is like Ctrl-C."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run the sweep that a command line asks for; returns the exit status."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv, str(__doc__))
        plan = SweepPlan(options.overrides)
        if plan.config.cluster.executor == "wandb":
            return write_agents(plan)
        log_to_console()
        signal.signal(signal.SIGTERM, interrupted)
        return sweep(plan)
    except InputError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep.py: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
