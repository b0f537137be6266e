"""Weights & Biases: one run per training, however often that is stopped."""

import json
import logging
import netrc
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]

from cryoem.io.atomic import atomic_path

log = logging.getLogger(__name__)
RUN_ID = "wandb_run"  # in checkpoints
_HOST = "api.wandb.ai"


class OneWandbRun(WandbLogger):
    """A W&B run that a resumed training continues.

    Its id is kept in ``<output_dir>/wandb.json`` and, by :class:`LivePanels`, in the checkpoint; a
    training that finds neither gets a new one. Values at steps before the last one
    that an earlier part of the training has logged are left out, because they are there already.
    Runs of a sweep are grouped by the environment variable ``WANDB_RUN_GROUP``.

    Parameters
    ----------
    output_dir
        Of the run; W&B's files go to ``wandb`` below it.
    offline
        Whether to send nothing: ``auto`` unless ``wandb login`` or ``WANDB_API_KEY`` has said to
        which account. ``WANDB_MODE`` is stronger.
    artifacts
        Whether to add the final checkpoint and the volumes as artifacts.
    **options
        Of ``wandb.init``: project, name, entity, tags, notes, group.
    """

    def __init__(
        self,
        output_dir: str | Path,
        offline: bool | str = "auto",
        artifacts: bool = False,
        **options: Any,
    ) -> None:
        # absolute: W&B writes in a process of its own, which may have begun in another folder
        self.output_dir = Path(output_dir).absolute()
        self.artifacts = artifacts
        self._noted = self.output_dir / "wandb.json"
        self._earlier_step = -1
        quiet = {"silent": True}  # what it prints is for its own runs; we say where ours is
        super().__init__(
            save_dir=self.output_dir, offline=_is_offline(offline), settings=quiet, **options
        )
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever its value

    @property
    def experiment(self) -> Any:
        """The run of W&B; begun or continued when it is first asked for."""
        if self._experiment is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            earlier = self._earlier()
            self._wandb_init["id"] = self._id = earlier["id"]
            self._earlier_step = earlier["step"]
            self.output_dir.mkdir(parents=True, exist_ok=True)
            run = super().experiment
            self._note(self._earlier_step)
            where = run.dir if self._offline else run.url
            way_out = "; wandb sync sends it to an account" if self._offline else ""
            log.info("W&B run %s: %s%s", run.id, where, way_out)
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log, unless an earlier part of the training has been further."""
        self.experiment  # noqa: B018 (it reads how far that was)
        if step is not None and step < self._earlier_step:
            return
        super().log_metrics(metrics, step)
        if step is not None:
            self._note(step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, or W&B would put the next training of this process into it."""
        if self._experiment is None:
            return
        if status == "success" and self.artifacts:
            self._add_artifacts()
        self._experiment.finish(exit_code=0 if status == "success" else 1)
        self._experiment = None

    def _add_artifacts(self) -> None:
        run = self._experiment
        assert run is not None
        for kind, path in (("model", "checkpoints/last.ckpt"), ("volumes", "volumes")):
            if (self.output_dir / path).exists():
                run.log_artifact(str(self.output_dir / path), name=f"{kind}-{run.id}", type=kind)

    def _earlier(self) -> dict[str, Any]:
        """Id and last step of the run to be continued; a new id if there is none."""
        if self._noted.is_file():
            return json.loads(self._noted.read_text())
        checkpoints = [self.output_dir / "checkpoints" / n for n in ("last.ckpt", "previous.ckpt")]
        checkpoint = next((path for path in checkpoints if path.is_file()), None)
        run_id = None
        if checkpoint is not None:
            state = torch.load(checkpoint, weights_only=True, mmap=True, map_location="cpu")
            run_id = state.get(RUN_ID)
        given = os.environ.get("WANDB_RUN_ID")  # by the agent of a W&B sweep
        return {"id": run_id or given or secrets.token_hex(4), "step": -1}

    def _note(self, step: int) -> None:
        """Write down how far the run is; one without an id is switched off."""
        run = {"id": self._wandb_init["id"], "step": max(step, self._earlier_step)}
        with atomic_path(self._noted) as path:
            path.write_text(json.dumps(run) + "\n")


def _is_offline(asked: bool | str) -> bool:
    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        return mode != "online"
    if asked != "auto":
        return bool(asked)
    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        return netrc.netrc().authenticators(_HOST) is None
    except (OSError, netrc.NetrcParseError):
        return True
