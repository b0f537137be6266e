"""A few particles, always the same, on which a volume is tried out after each epoch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.metrics.explained import explained_by_shell, points_of_shells
from cryoem.poses import SearchedPoses
from lightning_modules.base import Reconstruction
from lightning_modules.hetero import HeteroReconstruction

_SHARE, _FEWEST, _MOST = 0.01, 64, 256  # of the particles; images


@dataclass(frozen=True)
class Explained:
    """What a volume explains of the images of the probe.

    Attributes
    ----------
    by_shell
        Nats per Fourier coefficient, mean over images, from shell 1 to the radius that is compared.
    nats, standard_error
        Of a whole image, with the latent's KL divergence subtracted.
    trained_on
        Whether the volume has seen these images.
    """

    by_shell: Float[np.ndarray, " shell"]
    nats: float
    standard_error: float
    trained_on: bool


class Probe:
    """Reads its images once: held-out ones if there are any, else some at even strides."""

    def __init__(self, model: Reconstruction, data: Any) -> None:
        n = model.geometry.n_particles
        size = min(n, max(_FEWEST, min(round(_SHARE * n), _MOST)))
        poses = model.poses
        rows = poses.held_out if isinstance(poses, SearchedPoses) else data.held_out
        self._trained_on = not len(rows) and len(model.decoders) == 1
        if not len(rows):
            rows = torch.arange(n)
        rows = rows[torch.linspace(0, len(rows) - 1, min(size, len(rows))).round().long()]
        raw = data.dataset(data.half).rows(rows).to(model.device)
        self._batch: ParticleBatch = data.on_after_batch_transfer(raw, 0)

    @torch.no_grad()
    def explained(self, model: Reconstruction) -> Explained:
        """Try out the volume as it is now, without changing anything.

        Half-sets are compared with the volume of the *other* half, which has not seen them.
        """
        was_training = model.training
        model.eval()
        predicted, kl = _predicted(model, self._batch)
        observed = model.forward_model().observed(self._batch, model.poses(self._batch.index).shift)
        model.train(was_training)
        n_shells = model.compared_radius  # what is further out was not trained
        gain = explained_by_shell(predicted, observed, model.lattice)[:, :n_shells]
        of_image = (gain @ points_of_shells(model.lattice)[:n_shells] - kl).double()
        return Explained(
            by_shell=gain.mean(0).cpu().numpy(),
            nats=float(of_image.mean()),
            standard_error=float(of_image.std() / len(of_image) ** 0.5),
            trained_on=self._trained_on,
        )


def _predicted(model: Reconstruction, batch: ParticleBatch) -> tuple[Tensor, Tensor]:
    """Predicted images, and the KL divergence of each."""
    if isinstance(model, HeteroReconstruction):
        return _slices(model, batch, 0)
    assert batch.split is not None
    halves = [_slices(model, batch[: batch.split], 1), _slices(model, batch[batch.split :], 0)]
    predicted, kl = (torch.cat(parts) for parts in zip(*halves, strict=True))
    return predicted, kl


def _slices(model: Reconstruction, batch: ParticleBatch, number: int) -> tuple[Tensor, Tensor]:
    forward = model.forward_model(number)
    kl, z = torch.zeros(len(batch), device=model.device), None
    if isinstance(model, HeteroReconstruction):
        z = torch.zeros(len(batch), model.latent_dim, device=model.device)
        if not model.consensus:
            posterior = model.posterior(batch)
            z, kl = posterior.mean, posterior.kl()
    rotation = model.poses(batch.index).rotation
    slices = forward.slices(rotation, batch.pixel_size_angstrom, z)
    return slices * forward.transfer(batch), kl
