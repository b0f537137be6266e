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

from omegaconf import OmegaConf

from conf.compose import parse
from conf.folder import log_to_console, logged
from conf.points import checked
from conf.sweep_plan import SweepPlan
from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path
from cryoem.sweeps.jobs import Jobs
from cryoem.sweeps.leaderboard import best, write_leaderboard
from cryoem.sweeps.points import FAILED, Point, Points, load_points
from cryoem.sweeps.run import Sweep
from cryoem.sweeps.samplers import Grid, Optuna, Sampler
from cryoem.sweeps.space import corners
from cryoem.sweeps.subset import cheap_data
from cryoem.sweeps.timing import expected_time, timing_overrides
from cryoem.sweeps.wandb_sweep import write_wandb_sweep
from cryoem.sweeps.workers import Processes, Workers, visible_devices

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
                notes.append(time_of_best(plan, first, workers, n_particles))
                log.info(notes[0])
        write_leaderboard(plan.folder, points, plan.objective)
        write_page(plan, points, notes)
        for name in ("leaderboard.csv", "best.yaml", "sweep.html"):
            if (plan.folder / name).is_file():
                print(f"  {name:16s} {plan.folder / name}")
        return int(bool(points.in_state(FAILED)))


def prepare(plan: SweepPlan) -> int:
    """Make what the points share: a cheap subset, simulated particles; returns how many in full."""
    from cryoem.simulate import simulate

    trial, subset = plan.recipe.trial, plan.config.hparams.subset
    data: Any = OmegaConf.to_container(plan.full.data)
    n_particles = 0
    if subset is not None:
        cheap, n_particles = cheap_data(
            data, subset.n_particles, subset.box_size, plan.folder / "subset.npy"
        )
        trial |= cheap
        trial["trainer.max_epochs"] = str(min(subset.epochs, plan.full.trainer.max_epochs))
    varied = any(key in ("seed", "experiment") or key.startswith("data") for key in plan.space)
    if "simulation" in data and not varied and "data.folder" not in plan.recipe.fixed:
        folder = plan.folder / "data"
        config = checked(plan.recipe.of_point(1, corners(plan.space)[0]))
        if not folder.exists():
            log.info("simulating the particles of all points in %s", folder)
            settings: Any = OmegaConf.to_container(config.data.simulation)
            simulate(folder, **settings)
        trial["data.folder"] = str(folder)
    return n_particles


def make_sampler(plan: SweepPlan) -> Sampler:
    """What proposes points."""
    hparams = plan.config.hparams
    if plan.sampler == "grid":
        return Grid(plan.space)
    return Optuna(
        plan.folder / "optuna.jsonl",
        plan.space,
        plan.sampler,
        hparams.trials,
        maximise=plan.objective.maximise,
        prune=hparams.prune,
        seed=hparams.seed,
    )


def make_workers(plan: SweepPlan) -> Workers:
    """Where points run."""
    cluster, logs = plan.config.cluster, plan.folder / "logs"
    environment = {"WANDB_RUN_GROUP": plan.config.name}
    if cluster.executor == "processes":
        return Processes(cluster.parallel, logs, visible_devices(), environment)
    parameters: Any = OmegaConf.to_container(cluster.parameters)
    return Jobs(cluster.parallel, logs, environment, cluster.executor, parameters)


def write_best(plan: SweepPlan, first: Point) -> None:
    """``best.yaml``: the whole configuration, for all of the data."""
    with atomic_path(plan.folder / "best.yaml") as path:
        OmegaConf.save(checked(plan.recipe.of_best(first.values)), path)


def command_of_best(plan: SweepPlan) -> str:
    """How to run ``best.yaml``."""
    return f"python train.py --config-dir {plan.folder} --config-name best"


def write_page(plan: SweepPlan, points: Points, notes: list[str]) -> None:
    """``sweep.html`` and its figures."""
    from cryoem.sweeps.page import Outlook, write_sweep_page  # matplotlib takes a second

    outlook = Outlook(command_of_best(plan), notes)
    write_sweep_page(plan.folder, plan.space, points, plan.objective, outlook)


def time_of_best(plan: SweepPlan, first: Point, workers: Workers, n_particles: int) -> str:
    """Train a few batches of the recommended configuration at its full size."""
    name = f"timing_{first.name}"
    config = checked(plan.recipe.of_best(first.values))
    data: Any = OmegaConf.to_container(config.data)
    others = timing_overrides(data, plan.folder / f"{name}.npy")
    run = plan.folder / name
    if not (run / "metrics.json").is_file():
        overrides = plan.recipe.of_best(first.values)[:-2]  # its own name and folder
        overrides = [o for o in overrides if o.partition("=")[0] not in others]
        lines = [f"{key}={value}" for key, value in others.items()]
        command = [*overrides, *lines, f"name={name}", f"output_dir={run}"]
        log.info("timing %s on a few batches of full size", first.name)
        workers.start(name, [sys.executable, str(TRAIN), *command], "")
        try:
            while workers.status(name) is None:
                time.sleep(1)
        finally:
            workers.stop_all()
    return expected_time(run, n_particles, config.trainer.max_epochs)


def write_agents(plan: SweepPlan) -> int:
    """``cluster=wandb``: the description of the sweep, and how to start it."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    own = [o for o in plan.own if o.partition("=")[0] not in ("name", "cluster")]
    fixed = dict(plan.recipe.fixed)
    fixed.setdefault("logger", "logger=wandb")
    fixed.setdefault("logger.wandb.offline", "logger.wandb.offline=false")
    name = "name=" + plan.config.name + "/${oc.env:WANDB_RUN_ID}"
    file = plan.folder / "wandb.yaml"
    write_wandb_sweep(
        file,
        plan.config.name,
        plan.space,
        plan.objective,
        plan.sampler,
        plan.config.hparams.trials,
        ["sweep.py", *own, *fixed.values(), name],
    )
    print(f"wandb sweep {file}\nwandb agent SWEEP_ID    # as the line before says; once per device")
    return 0


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
