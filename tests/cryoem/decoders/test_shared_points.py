"""One set of points for the volumes of many latents."""

import torch

from cryoem.decoders.fourier_mlp import FourierMLP


def test_points_are_shared_by_all_latents():
    decoder = FourierMLP(16, latent_dim=2, width=8, depth=1)
    points, z = torch.rand(1, 30, 3) - 0.5, torch.randn(4, 2)
    apart = torch.cat([decoder(points, row[None]) for row in z])
    torch.testing.assert_close(decoder(points, z), apart)
