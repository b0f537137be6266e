"""How well a model explains particles that trained nothing, and which frequencies of them."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import ParticleBatch
from lightning_modules.base import Reconstruction

_BANDS = 10


@torch.no_grad()
def explained_of_held_out(
    model: Reconstruction, data: Any, rank: int = 0, world_size: int = 1
) -> Float[Tensor, " image"]:
    """Lower bound of the log likelihood of each held-out image, over that of an empty volume.

    Nats of a whole image: squared error without a prediction, minus the expected squared error
    under the posterior of the latent, minus the KL divergence of that posterior. The last is what
    knowing the latent costs, so a larger latent space wins only by what it explains; the weight
    ``beta`` of the training plays no part, so models trained with any are comparable.

    Parameters
    ----------
    model, data
        The model, on the device where the work is done, and its datamodule, set up.
    rank, world_size
        Only this share of the images is judged.
    """
    device, was_training = model.device, model.training
    model.eval()
    rows = data.held_out[rank::world_size]
    dataset = data.dataset(data.half)
    found = torch.zeros(model.geometry.n_particles, device=device)
    # the same draws of latents every time, and none from the streams of the training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for some in rows.split(max(1, data.batch_size // world_size)):
            batch: ParticleBatch = data.on_after_batch_transfer(dataset.rows(some).to(device), 0)
            terms = model.loss_terms(batch)
            empty = batch.fourier[:, : model.n_compared].abs().square().sum(-1)
            kl = 0.0 if terms.kl is None else terms.kl
            found[batch.index] = empty - terms.error - kl
    model.train(was_training)
    return found[rows.to(device)]


def explained_up_to(model: Reconstruction, data: Any) -> dict[str, list[float]]:
    """Mean of :func:`explained_of_held_out` of images that are cut at ten frequencies in turn.

    ``up_to_per_angstrom`` are the frequencies, ``nats`` what is explained of all that lies below;
    the last one is the whole image. Each is a bound of its own: where the posterior is exact, two
    of them differ by what a band of frequencies says, given all coarser ones. Summing the error
    shell by shell instead would leave out what knowing the latent costs, and prefer the model with
    the most dimensions at every frequency.
    """
    whole = model.compared_radius
    radii = np.unique(np.linspace(0, whole, _BANDS + 1).round().astype(int))[1:].tolist()
    nats = []
    for radius in radii:
        model.compared_radius = radius
        nats.append(float(explained_of_held_out(model, data).mean()))
    length = model.geometry.box_size * model.geometry.pixel_size_angstrom
    return {"up_to_per_angstrom": [radius / length for radius in radii], "nats": nats}
