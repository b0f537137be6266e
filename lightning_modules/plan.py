"""What a run will take: bytes to read, memory, disk and time, from a few steps of a copy."""

import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cryoem.batch import ParticleBatch
from cryoem.errors import InputError
from cryoem.io.mrc import read_mrc_header
from cryoem.memory import free_memory_bytes
from cryoem.poses.searched import SearchedPoses
from cryoem.preflight.page import PlanRow
from cryoem.volume import evaluate_volumes
from lightning_modules.base import Reconstruction
from lightning_modules.hetero import HeteroReconstruction
from lightning_modules.searcher import Searcher

_STEPS = 3
_SEARCHED = 8  # images


@dataclass(frozen=True)
class _Cost:
    """Of one go: seconds, and its peak of memory where that can be measured."""

    seconds: float
    bytes: int | None


def make_plan(model: Reconstruction, data: Any, trainer: pl.Trainer, folder: Path) -> list[PlanRow]:
    """Probe every phase of a run on its device; neither the model nor a random state changes.

    Parameters
    ----------
    model, data, trainer
        Ready for ``trainer.fit``.
    folder
        Of the run.

    Raises
    ------
    InputError
        If a phase does not fit into the memory of the device.
    """
    device = trainer.strategy.root_device
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        twin = copy.deepcopy(model).to(device)
        began = time.perf_counter()
        raw = data.dataset(data.half).rows(_first_batch(data, trainer))
        reading = time.perf_counter() - began
        batch = data.on_after_batch_transfer(raw.to(device), 0)
        optimizer = twin.optimizer(twin.parameters())
        costs = {"a training step": _training(twin, optimizer, batch, trainer)}
        costs |= _other_phases(twin, batch)
        kept = _state_bytes(twin, optimizer)
    return [
        *_reading_rows(data),
        *_memory_rows(data, costs, device),
        _disk_row(model, kept, folder),
        *_time_rows(data, trainer, costs, reading, len(batch)),
    ]


def _first_batch(data: Any, trainer: pl.Trainer) -> Tensor:
    share = max(1, data.batch_size // trainer.world_size)
    return torch.arange(min(share, data.geometry.n_particles))


def _training(
    model: Reconstruction, optimizer: torch.optim.Optimizer, batch: ParticleBatch, trainer: Any
) -> _Cost:
    """Mean of some steps after the first, which is slow."""
    model.train()

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = model.losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        for table in model.row_tables():
            table.apply_gradients(None, 0.0)
        optimizer.step()

    return _measured(step, model.device, "a training step", _STEPS)


def _other_phases(model: Reconstruction, batch: ParticleBatch) -> dict[str, _Cost]:
    """What else a run does on the device; called once each."""
    model.eval()
    device, side = model.device, model.geometry.box_size
    found = {}
    if isinstance(model.poses, SearchedPoses):
        searcher = Searcher(model, model.poses)
        searcher.renew(min(model.poses.radii[-1], model.lattice.radius), seed=0)
        few = batch[:_SEARCHED]
        found["a search for poses"] = _measured(
            lambda: searcher.explained(few), device, "a search for poses"
        )
    if isinstance(model, HeteroReconstruction):
        posterior = model.posterior
        found["latents of a batch"] = _measured(
            lambda: posterior(batch), device, "inferring latents"
        )
    z = torch.zeros(1, model.latent_dim, device=device) if model.latent_dim else None
    found["a volume"] = _measured(
        lambda: evaluate_volumes(model.decoders[0], side, z, device), device, "decoding a volume"
    )
    return found


def _measured(work: Callable[[], object], device: torch.device, what: str, times: int = 0) -> _Cost:
    """Do it once for the memory, then so many times for the time, or else once for both."""
    try:
        with _peak(device) as peak:
            seconds = _seconds(work, device)
        for _ in range(times):
            seconds = min(seconds, _seconds(work, device))
    except (MemoryError, RuntimeError) as error:  # CUDA's is a RuntimeError
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise InputError(
            f"{what} does not fit into the {free_memory_bytes(device) / 1e9:.1f} GB that are free "
            f"on {device}; lower data.batch_size or data.box_size, or take a smaller model"
        ) from None
    return _Cost(seconds, peak[0] if peak else None)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Put into a list the memory that a block needs beyond what was in use; not on all systems."""
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.append(torch.cuda.max_memory_allocated(device))
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
    except OSError:  # not Linux
        yield found
        return
    yield found
    found.append(max(0, _status("VmHWM") - before))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def _state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    moments = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [t for t in (*model.state_dict().values(), *moments) if isinstance(t, Tensor)]
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def _reading_rows(data: Any) -> list[PlanRow]:
    n = data.geometry.n_particles
    n_bytes = n * read_mrc_header(data.table.stacks[0]).image_bytes
    often = "once in each epoch" if data.placement == "stream" else "once, at the start"
    return [PlanRow("To read", _gigabytes(n_bytes), f"{n:,} images from disk, {often}")]


def _memory_rows(data: Any, costs: dict[str, _Cost], device: torch.device) -> list[PlanRow]:
    held = data.image_memory_bytes()
    arrays = [value for value in vars(data.table).values() if isinstance(value, np.ndarray)]
    for record in (data.table.pose, data.table.ctf):
        arrays += [] if record is None else [value.numpy() for value in vars(record).values()]
    metadata = sum(array.nbytes for array in arrays)
    rows = [
        PlanRow(
            "Memory for images",
            _gigabytes(held),
            f"data.placement={data.placement}; {_gigabytes(free_memory_bytes())} are free",
        ),
        PlanRow(
            "Memory for metadata",
            _gigabytes(metadata),
            f"{metadata / len(data.table):.0f} bytes a particle",
        ),
    ]
    where = f"{free_memory_bytes(device) / 1e9:.1f} GB are free on {device}"
    for name, cost in costs.items():
        amount = "not measured" if cost.bytes is None else _at_least_megabyte(cost.bytes)
        how = "all in use on the device" if device.type == "cuda" else "beyond what is in use"
        rows.append(PlanRow(f"Memory in {name}", amount, f"measured: {how}; {where}"))
    return rows


def _disk_row(model: Reconstruction, state: int, folder: Path) -> PlanRow:
    """Checkpoints are written beside the old one before they replace it."""
    volumes = 10 * 4 * model.geometry.box_size**3
    n_bytes = 2 * state + volumes + 4 * 2 * model.latent_dim * model.geometry.n_particles
    free = shutil.disk_usage(folder).free
    doubt = "" if free > n_bytes else "; that is too little"
    return PlanRow(
        "Disk for results",
        _gigabytes(n_bytes),
        f"two checkpoints of {_gigabytes(state)}, ten volumes, latents; "
        f"{_gigabytes(free)} are free{doubt}",
    )


def _time_rows(
    data: Any, trainer: pl.Trainer, costs: dict[str, _Cost], reading: float, n_batch: int
) -> list[PlanRow]:
    steps = math.ceil(data.geometry.n_particles / data.batch_size)
    step = costs["a training step"].seconds
    per_epoch = steps * max(step, reading)
    rows = [
        PlanRow(
            "Time of a step",
            f"{1e3 * step:.3g} ms",
            f"best of {_STEPS + 1} with {n_batch} images ({n_batch / step:,.0f} images/s); "
            f"reading them took {1e3 * reading:.3g} ms",
        ),
        PlanRow("Time of an epoch", _duration(per_epoch), f"{steps:,} steps, reading beside them"),
    ]
    if "a search for poses" in costs:
        each = costs["a search for poses"].seconds / min(_SEARCHED, n_batch)
        searched = data.geometry.n_particles * each / trainer.world_size
        rows.append(
            PlanRow(
                "Time to search all poses",
                _duration(searched),
                f"at most, {1e3 * each:.3g} ms an image from the top; settled ones are faster",
            )
        )
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        whole = trainer.max_epochs * per_epoch
        rows.append(
            PlanRow("Time in all", _duration(whole), f"{trainer.max_epochs} epochs of steps")
        )
    return rows


def _at_least_megabyte(n: int) -> str:
    return _gigabytes(n) if n >= 1e6 else "under 1 MB"


def _gigabytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
