"""A finished run folder, made of arrays."""

from pathlib import Path

import numpy as np
import pandas as pd

from cryoem.decoders.phantom import random_phantom
from cryoem.export_run import (
    resolution_entry,
    write_data_summary,
    write_figures,
    write_hetero_volumes,
    write_latents,
    write_metrics,
)
from cryoem.metrics.fsc import FSCCurve
from cryoem.report.build import build_report

SIDE, N, VOXEL = 16, 50, 2.5


def volumes(n: int) -> np.ndarray:
    import torch

    generator = torch.Generator().manual_seed(0)
    return np.stack(
        [random_phantom(5, 4.0, 1.5, SIDE, generator).density().numpy() for _ in range(n)]
    )


def latents() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


def write_run(folder: Path) -> Path:
    z, series = latents(), volumes(3)
    curve = FSCCurve(np.arange(SIDE // 2) / SIDE, np.linspace(1, 0, SIDE // 2))
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"x")
    (folder / "config.yaml").write_text("name: swing\ntrainer:\n  max_epochs: 4\n")
    log = ["INFO a: fine", "WARNING py.warnings: old", "WARNING a: <odd>", "WARNING a: <odd>"]
    (folder / "run.log").write_text("\n".join(f"{i} {line}" for i, line in enumerate(log)))
    steps = [5, 10, 15, 20, 25]
    history = pd.DataFrame({"epoch": [0, 0, 1, 1, 2], "step": steps, "loss_nats": 10.0 / steps[0]})
    history["epoch_loss_nats"] = [None, 2.0, None, 1.0, None]  # the third epoch did not end
    history.to_csv(folder / "metrics.csv", index=False)
    entry = resolution_entry(curve, 0.143, VOXEL, "half-set volumes", "none")
    write_metrics(folder, {"resolution": [entry], "kl_nats": np.float32(7.5), "bad": np.nan})
    write_data_summary(folder, {"n_particles": N, "notes": ["beam tilt is ignored"]})
    write_hetero_volumes(folder, series, z[:3], VOXEL)
    write_latents(folder, z, np.ones_like(z), np.arange(N))
    write_figures(
        folder,
        VOXEL,
        volume=series[0],
        series=series,
        curves={"half-set volumes": curve},
        z=z,
        series_latents=z[:3],
        rotations=np.tile(np.eye(3), (N, 1, 1)),
    )
    build_report(folder)
    return folder
