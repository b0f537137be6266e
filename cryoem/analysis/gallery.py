"""Images of a few particles beside what the model predicts for them."""

import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import ParticleBatch, Pose
from cryoem.forward_model import ForwardModel


@torch.no_grad()
def gallery_images(
    forward_model: ForwardModel,
    batch: ParticleBatch,
    pose: Pose,
    z: Float[Tensor, "batch latent"] | None = None,
) -> tuple[Float[Tensor, "batch side side"], Float[Tensor, "batch side side"]]:
    """Centred images and predictions, both with the phases of the CTF flipped.

    Both are multiplied by the sign of the CTF, so that a prediction is the projection times
    ``|CTF|`` and the image is that plus noise. With the raw images they are the arguments of
    :func:`cryoem.figures.particle_gallery`.
    """
    transfer = forward_model.transfer(batch)
    observed = forward_model.observed(batch, pose.shift)
    slices = forward_model.slices(pose.rotation, batch.pixel_size_angstrom, z)
    scatter = forward_model.lattice.scatter
    return scatter(observed * transfer.sign()), scatter(slices * transfer.abs())
