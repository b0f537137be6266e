"""Slices of maps: against the direct sum, and against images that RELION made."""

import math

import mrcfile
import pytest
import torch

from cryoem.io.volume import read_volume
from cryoem.lattice import shift_phases
from cryoem.rotations import from_relion
from cryoem.simulate.map_specimen import GriddedTransform, MapSpecimen
from cryoem.simulate.specimen import plane_freqs, to_images
from cryoem.volume import spectrum_to_volume


@pytest.mark.parametrize("side", [16, 17])
def test_a_map_is_transformed_as_by_the_direct_sum(side):
    generator = torch.Generator().manual_seed(0)
    density = torch.randn(side, side, side, generator=generator)
    freqs = torch.rand(200, 3, generator=generator) - 0.5
    axis = (torch.arange(side) - side // 2).double()
    waves = [
        torch.exp(-2j * math.pi * freqs[:, i : i + 1].double() * axis) for i in range(3)
    ]  # x, y, z
    direct = torch.einsum("zyx,px,py,pz->p", density.to(torch.complex128), *waves)
    error = GriddedTransform(density)(freqs) - direct
    relative = float(error.abs().square().mean().sqrt() / direct.abs().square().mean().sqrt())
    assert relative < 2e-5  # 8e-6 measured


def test_a_map_sampled_as_the_images_is_returned_unchanged():
    # band-limited, so that dropping the corners of Fourier space changes nothing
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0) - 12] * 3, indexing="ij"), -1)
    density = torch.exp(-0.5 * ((grid - torch.tensor([1.0, -3.0, 2.0])) / 2.0).square().sum(-1))
    specimen = MapSpecimen(density, 4.0, 24, 4.0)
    volume = spectrum_to_volume(specimen.spectrum(0.0))
    torch.testing.assert_close(volume, density, rtol=0, atol=2e-4)


def test_resampling_keeps_density_and_place_in_angstrom():
    def blob(side: int, voxel: float) -> torch.Tensor:
        axis = (torch.arange(side) - side // 2) * voxel
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        return torch.exp(-0.5 * ((x - 9) ** 2 + (y + 6) ** 2 + (z - 3) ** 2) / 6.0**2)

    specimen = MapSpecimen(blob(45, 2.0), 2.0, 32, 3.0)
    volume = spectrum_to_volume(specimen.spectrum(0.0))
    torch.testing.assert_close(volume, blob(32, 3.0), rtol=0, atol=1e-3)


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def _relion_rows(path) -> torch.Tensor:
    """Angles and origins (pixels), read without the package: five numbers begin each row."""
    lines = path.read_text().splitlines()
    rows = [line.split() for line in lines if "@" in line]
    return torch.tensor([[float(word) for word in row[:5]] for row in rows], dtype=torch.float64)


def _project(shared_data, rows: torch.Tensor, origin_sign: float = 1.0) -> torch.Tensor:
    density, _ = read_volume(shared_data / "real/aspire/clean70SRibosome_vol_65p.mrc")
    # relion_project was given this map rescaled from 65 to 64 voxels over the same width
    specimen = MapSpecimen(torch.from_numpy(density), 1.0, 64, 65 / 64)
    rotation = from_relion(*rows[:, :3].unbind(1))
    slices = specimen.slices(rotation, torch.zeros(len(rows)))
    freqs = plane_freqs(64)
    phases = shift_phases(freqs.flatten(0, 1), -origin_sign * rows[:, 3:].float())
    return to_images(slices * phases.unflatten(-1, freqs.shape[:2]))


@pytest.mark.parametrize("name", ["centered", "shifted"])
def test_projections_are_those_of_relion(shared_data, name):
    folder = shared_data / "real/aspire"
    rows = _relion_rows(folder / f"rln_proj_64_{name}.star")
    with mrcfile.open(folder / f"rln_proj_64_{name}.mrcs") as stack:
        relion = torch.from_numpy(stack.data.copy())
    for ours, theirs in zip(_project(shared_data, rows), relion, strict=True):
        assert _correlation(ours, theirs) > 0.999


def test_wrong_conventions_are_not_those_of_relion(shared_data):
    folder = shared_data / "real/aspire"
    rows = _relion_rows(folder / "rln_proj_64_shifted.star")
    with mrcfile.open(folder / "rln_proj_64_shifted.mrcs") as stack:
        relion = torch.from_numpy(stack.data.copy())
    ours = _project(shared_data, rows)
    flipped = _project(shared_data, rows, origin_sign=-1.0)
    assert max(_correlation(a, b) for a, b in zip(flipped, relion, strict=True)) < 0.5
    assert max(_correlation(a.T, b) for a, b in zip(ours, relion, strict=True)) < 0.7
    assert max(_correlation(a.flip(-1), b) for a, b in zip(ours, relion, strict=True)) < 0.7
