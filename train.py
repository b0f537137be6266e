"""Train a reconstruction: ``python train.py [group=choice] [key=value]``.

Without arguments: a demonstration on a simulated flexible particle. With your own particles:

  python train.py data=particles data.particles=FILE.star name=NAME

Everything lands in runs/NAME; the same command goes on where the run stopped.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from conf.checks import check
from conf.compose import compose, parse
from conf.folder import begin, log_to_console, logged, removed_on_failure, results
from conf.launch import is_first
from conf.resume import Start, finished_epochs, plan
from conf.start_over import refuse_to_lose_inputs
from cryoem.errors import InputError

if TYPE_CHECKING:
    import pytorch_lightning as pl

log = logging.getLogger("train")


@contextmanager
def blamed_on(group: str) -> Iterator[None]:
    """Turn what a constructor refuses into an error that names the group and the reason."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except (ValueError, InstantiationException, MisconfigurationException) as error:
        reason = str(error.__cause__ or error).splitlines()
        raise InputError(f"{group}: " + "\n".join(reason[:2])) from error


def build(config: DictConfig) -> "tuple[pl.LightningDataModule, pl.LightningModule, pl.Trainer]":
    """Read the data, and make the model and the trainer that suit them."""
    import pytorch_lightning as pl  # here, because it takes seconds, and a typing error should not

    from cryoem.memory import keep_freed_memory
    from cryoem.poses.searched import random_poses
    from lightning_modules.cluster import cluster

    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: Any = instantiate(config.data)
    with blamed_on("trainer"):
        trainer = instantiate(config.trainer)(
            callbacks=list(instantiate(config.callbacks).values()),
            logger=list(instantiate(config.logger).values()),
            plugins=cluster(),
        )
    data.prepare_data()
    data.setup()
    searched = config.poses._target_.endswith(".SearchedPoses")
    if data.pose is None and not searched:
        raise InputError(
            f"{config.data.particles} holds no poses.\n"
            "Give them with data.poses=FILE (.star, .cs or .pkl), or find them with poses=search"
        )
    with blamed_on("model"):
        start = random_poses(data.geometry.n_particles, config.seed) if searched else data.pose
        poses = instantiate(config.poses)(start)
        parts = (data.geometry, poses, data.data_scale)
        model = instantiate(config.model)(*parts, amplitude=data.amplitude)
    model.config = OmegaConf.to_container(config)
    if config.ckpt_path is not None:
        model.start_from(config.ckpt_path)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return data, model, trainer


def preflight(config: DictConfig, data: Any, model: Any, trainer: "pl.Trainer") -> None:
    """Find out how the files are to be read and what the run will take, on ``preflight.html``."""
    from cryoem.poses.searched import SearchedPoses
    from cryoem.preflight import examine, refuse_contradictions
    from cryoem.preflight.page import write_preflight
    from lightning_modules.plan import make_plan

    page = Path(config.output_dir) / "preflight.html"
    pose = None if isinstance(model.poses, SearchedPoses) else data.table.pose
    device = trainer.strategy.root_device
    findings = examine(data.source, pose, sign=config.data.sign, device=device)
    write_preflight(findings, page, make_plan(model, data, trainer, page.parent))
    for verdict in findings.verdicts:
        log.log(verdict.level.severity, "%s: %s", verdict.topic, verdict.text)
    refuse_contradictions(findings.verdicts, page)
    log.info("preflight: %s, in %.0f s", page, findings.seconds)


def fit(trainer: "pl.Trainer", model: Any, data: Any, checkpoint: Path | None) -> None:
    """Train; what Lightning turns into an exit stays the interruption that it was."""
    try:
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:
        raise stop.__context__ or stop from None


def train(config: DictConfig) -> dict[str, float]:
    """Train as a checked configuration says; returns the last value of every metric."""
    folder = Path(config.output_dir)
    start = Start() if config.preflight == "only" else plan(config)
    if start.finished:
        log.info("%s is finished: %d epochs.", folder, finished_epochs(folder))
        return {}
    with removed_on_failure(folder), logged(folder):
        if start.checkpoint is None:
            refuse_to_lose_inputs(folder, config)
        if start.over:
            from cryoem.report.run_folder import STARTS_OVER

            log.info("%s: %s", folder, STARTS_OVER)
        data, model, trainer = build(config)
    with logged(folder):
        if config.preflight and start.checkpoint is None and is_first():
            preflight(config, data, model, trainer)
        if config.preflight == "only":
            return {}
        if is_first():
            begin(folder, config, start)
        for logger in trainer.loggers:
            logger.log_hyperparams(cast(dict[str, Any], OmegaConf.to_container(config)))
        fit(trainer, model, data, start.checkpoint)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def main(argv: list[str] | None = None) -> int:
    """Run what a command line asks for; returns the exit status.

    0: finished; 2: bad input; 75: another process was lost; 130, 138, 143: stopped by Ctrl-C,
    SIGUSR1, SIGTERM, as a shell says it, with everything saved; 1: anything else.
    """
    # threads that wait by spinning make small networks several times slower on a shared machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log_to_console()
    try:
        options = parse(sys.argv[1:] if argv is None else argv, str(__doc__))
        config = compose(options.overrides, options.config_name, options.config_dir)
        if options.cfg:
            print(OmegaConf.to_yaml(config))
            return 0
        train(check(config))
    except InputError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("train.py: interrupted; the same command goes on", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    if is_first():
        print(results(Path(config.output_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
