"""What the configuration of a sweep names, made: its data, what proposes points, where they run."""

import logging
from typing import Any

from omegaconf import OmegaConf

from conf.points import checked
from conf.sweep_plan import SweepPlan
from cryoem.sweeps.jobs import Jobs
from cryoem.sweeps.samplers import Grid, Optuna, Sampler
from cryoem.sweeps.space import corners
from cryoem.sweeps.subset import cheap_data
from cryoem.sweeps.workers import Processes, Workers, visible_devices

log = logging.getLogger("cryoem.sweep")


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
