"""The latent of a linear decoder in units of volume change."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.decoders.base import Decoder, LinearDecoder, Windowed, combine
from cryoem.volume import half_grid


class FramedDecoder:
    """A linear decoder asked for latents ``z`` in another frame, ``z @ frame`` in its own.

    Parameters
    ----------
    decoder
        Linear in its latent.
    frame
        As :func:`volume_frame` gives it.
    """

    def __init__(self, decoder: LinearDecoder, frame: Float[Tensor, "latent latent"]) -> None:
        self.decoder = decoder
        self.frame = frame
        self.latent_dim = decoder.latent_dim

    def basis(
        self, freqs: Float[Tensor, "batch freq 3"]
    ) -> Complex[Tensor, "batch freq component"]:
        """Mean and components at ``freqs``."""
        basis = self.decoder.basis(freqs)
        components = basis[..., 1:] @ self.frame.T.to(basis.device, basis.dtype)
        return torch.cat([basis[..., :1], components], dim=-1)

    def __call__(
        self, freqs: Float[Tensor, "batch freq 3"], z: Float[Tensor, "batch latent"] | None = None
    ) -> Complex[Tensor, "batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs``."""
        return combine(self.basis(freqs), z)

    def real_space_window(self, side: int) -> Float[Tensor, "side side side"] | Float[Tensor, ""]:
        """That of the decoder, or 1."""
        if isinstance(self.decoder, Windowed):
            return self.decoder.real_space_window(side)
        return torch.ones(())


def in_frame(
    decoders: list[Decoder], frame: Float[Tensor, "latent latent"] | None
) -> list[Decoder]:
    """Decoders that take latents of the given frame, where they are linear and there is one."""
    if frame is None:
        return decoders
    return [FramedDecoder(d, frame) if isinstance(d, LinearDecoder) else d for d in decoders]


@torch.no_grad()
def volume_frame(
    decoder: Decoder, box_size: int, device: torch.device
) -> Float[Tensor, "latent latent"] | None:
    """Frame in which the distance of two latents is the distance of their volumes.

    The prior fixes the latent of a linear decoder only up to a rotation, and gives every direction
    the same variance however little of the volume it moves. In this frame the components are
    orthogonal and of equal size, in order of the variance they explain; the first coordinate has
    about unit variance. Volumes are compared up to half of Nyquist, where components are more than
    noise. None for decoders that are not linear.
    """
    if not isinstance(decoder, LinearDecoder) or not decoder.latent_dim:
        return None
    points = half_grid(box_size).flatten(0, -2)
    points = points[points.norm(dim=-1) <= 0.25]
    gram = torch.zeros(decoder.latent_dim, decoder.latent_dim, device=device)
    for chunk in points.split(1 << 17):
        components = decoder.basis(chunk[None].to(device))[0, :, 1:]
        gram += (components.mH @ components).real
    power, axes = torch.linalg.eigh(gram.cpu().double())
    power, axes = power.flip(0).clamp(min=1e-12), axes.flip(1)
    return ((power[0] / power).sqrt()[:, None] * axes.T).float()
