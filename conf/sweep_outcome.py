"""What a sweep leaves: the best configuration, a page, how long it will take; or agents' orders."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.points import checked
from conf.sweep_plan import SweepPlan
from cryoem.io.atomic import atomic_path
from cryoem.sweeps.points import Point, Points
from cryoem.sweeps.timing import expected_time, timing_overrides
from cryoem.sweeps.wandb_sweep import write_wandb_sweep
from cryoem.sweeps.workers import Workers

log = logging.getLogger("cryoem.sweep")


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


def time_of_best(
    plan: SweepPlan, first: Point, workers: Workers, train: Path, n_particles: int
) -> str:
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
        workers.start(name, [sys.executable, str(train), *command], "")
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
