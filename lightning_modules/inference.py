"""Latents and predictions of all particles, in the order of the file."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.fourier import fourier_crop
from lightning_modules.hetero import HeteroReconstruction


@torch.no_grad()
def infer_latents(
    model: HeteroReconstruction,
    data: Any,
    frame: Float[Tensor, "latent latent"] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every particle's latent, on the model's device.

    Parameters
    ----------
    model
        Its device is where the work is done.
    data
        A datamodule; its preprocessing runs on that device.
    frame
        That of :func:`cryoem.decoders.framed.volume_frame`; the model's own when None.
    rank, world_size
        Only this rank's particles are filled in, the others stay zero: the sum over ranks is
        the whole table.
    """
    model.eval()
    n = model.geometry.n_particles
    mean = torch.zeros(n, model.latent_dim, device=model.device)
    std = torch.zeros_like(mean)
    turn = torch.eye(model.latent_dim) if frame is None else torch.linalg.inv(frame)
    turn = turn.to(model.device)
    for raw in data.file_order_loader(rank, world_size):
        batch: ParticleBatch = data.on_after_batch_transfer(raw.to(model.device), 0)
        posterior = model.posterior(batch)
        mean[batch.index] = posterior.mean.float() @ turn
        std[batch.index] = (turn.T @ posterior.root().float()).norm(dim=-1)
    return mean, std


@torch.no_grad()
def example_images(model: Any, data: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raw, centred and predicted images of a few particles, on the CPU.

    Centred: shift undone, light, phases flipped. Predicted: multiplied by the absolute CTF.
    """
    model.eval()
    raw = data.dataset().rows(rows)
    batch = data.on_after_batch_transfer(raw.to(model.device), 0)
    pose = model.poses(batch.index)
    forward = model.forward_model()
    transfer = forward.transfer(batch)
    centred = forward.observed(batch, pose.shift) * transfer.sign()
    z = model.posterior(batch).mean if isinstance(model, HeteroReconstruction) else None
    predicted = forward.slices(pose.rotation, batch.pixel_size_angstrom, z) * transfer.abs()
    scatter = model.lattice.scatter
    images = fourier_crop(raw.images, model.geometry.box_size)
    return images.cpu(), scatter(centred).cpu(), scatter(predicted).cpu()
