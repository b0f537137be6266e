"""Latents in the frame of volume change."""

import torch

from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.decoders.framed import FramedDecoder, volume_frame
from cryoem.volume import evaluate_volumes

CPU = torch.device("cpu")


def decoder(box_size: int = 16) -> FourierGrid:
    torch.manual_seed(0)
    grid = FourierGrid(box_size, 3)
    with torch.no_grad():  # components of unequal size, not orthogonal, smooth
        grid.table[:, 2:4] *= 5
        grid.table[:, 4:6] += grid.table[:, 2:4]
    grid.amplitude.copy_((torch.arange(box_size) <= box_size // 4 - 1).float())
    return grid


def test_the_same_volume_has_other_coordinates():
    grid = decoder()
    frame = volume_frame(grid, 16, CPU)
    z = torch.randn(2, 3)
    framed = evaluate_volumes(FramedDecoder(grid, frame), 16, z @ torch.linalg.inv(frame), CPU)
    torch.testing.assert_close(framed, evaluate_volumes(grid, 16, z, CPU), rtol=1e-3, atol=1e-4)


def test_distances_of_latents_are_distances_of_volumes():
    grid = decoder()
    framed = FramedDecoder(grid, volume_frame(grid, 16, CPU))
    freqs = torch.fft.fftfreq(16)
    k = torch.stack(torch.meshgrid(freqs, freqs, freqs, indexing="ij"), -1).flatten(0, -2)
    k = k[(k.norm(dim=-1) <= 0.25)][None]
    a, b, c = (framed(k, torch.randn(1, 3)) for _ in range(3))
    torch.manual_seed(1)
    z = torch.randn(3, 3)
    a, b, c = (framed(k, row[None]) for row in z)
    volumes = (a - b).norm() / (a - c).norm()
    latents = (z[0] - z[1]).norm() / (z[0] - z[2]).norm()
    torch.testing.assert_close(volumes, latents, rtol=0.02, atol=0)


def test_the_first_axis_moves_the_volume_most_for_latents_of_the_prior():
    frame = volume_frame(decoder(), 16, CPU)
    spread = torch.randn(5000, 3) @ torch.linalg.inv(frame)
    std = spread.std(0)
    assert std[0] > 2 * std[1] > 2 * std[2]
    torch.testing.assert_close(std[0], torch.tensor(1.0), rtol=0.1, atol=0)


def test_a_decoder_that_is_not_linear_has_no_frame():
    assert volume_frame(FourierMLP(16, 2, width=8), 16, CPU) is None
