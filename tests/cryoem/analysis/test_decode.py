import numpy as np
import pytest
import torch

from cryoem.analysis.decode import decode_volumes
from cryoem.analysis.volume_edits import low_pass, other_hand
from cryoem.analysis.volume_facts import describe_volume
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.io.volume import write_volume
from cryoem.volume import spectrum_to_volume, volume_to_spectrum

SIDE = 32


def phantom() -> GaussianPhantom:
    return random_phantom(12, 7.0, 1.8, SIDE, torch.Generator().manual_seed(0))


def decode(decoders, **options) -> np.ndarray:
    options = {"data_scale": 1.0, "device": torch.device("cpu"), **options}
    return next(decode_volumes(decoders, SIDE, None, **options))


def test_a_smaller_box_of_a_grid_keeps_its_window():
    """The edge of the box is where the window matters; in Fourier space it is the same length."""
    torch.manual_seed(0)
    grid = FourierGrid(SIDE)
    with torch.no_grad():
        grid.table.normal_(std=0.01)
    large = decode([grid])
    unwindowed = large / grid.real_space_window(SIDE).numpy()
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(unwindowed)))
    cut = slice(SIDE // 2 - 10, SIDE // 2 + 10)
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(-10, 10)] * 3, indexing="ij")), axis=0)
    inside = np.where(radius <= 10, spectrum[cut, cut, cut], 0)
    cropped = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(inside))).real * (20 / SIDE) ** 3
    expected = cropped * grid.real_space_window(20).numpy()
    small = decode([grid], new_side=20)
    assert np.abs(small - expected).max() < 0.02 * np.abs(expected).max()


def without_mean(volume: np.ndarray) -> np.ndarray:
    return volume - volume.mean()


def test_a_decoded_phantom_is_its_density_but_for_the_mean():
    volume = decode([phantom()])
    expected = without_mean(phantom().density().numpy())
    assert np.abs(volume - expected).max() < 2e-3 * expected.max()


def test_a_smaller_box_is_the_fourier_crop_of_the_large_one():
    small = decode([phantom()], new_side=20)
    # FFT crop of the density, kept at the same grey values: (d/D)^3 for the shorter inverse
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(phantom().density().numpy())))
    cut = slice(SIDE // 2 - 10, SIDE // 2 + 10)
    cropped = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(spectrum[cut, cut, cut]))).real
    expected = without_mean(cropped * (20 / SIDE) ** 3)
    assert np.abs(small - expected).max() < 0.02 * expected.max()  # the sphere has no corners


def test_volumes_are_in_units_of_the_file_and_half_sets_are_averaged():
    a, b = decode([phantom()]), decode([phantom()], data_scale=-4.0)
    np.testing.assert_allclose(b, a / 4, rtol=1e-5)
    empty = GaussianPhantom(torch.zeros(1, 3), torch.zeros(1), 1.0, SIDE)
    np.testing.assert_allclose(decode([phantom(), empty]), a / 2, atol=1e-6)


def test_the_other_hand_is_the_mirrored_molecule_about_the_same_centre():
    original = phantom()
    mirrored = GaussianPhantom(
        original.centres * torch.tensor([1.0, 1, -1]), original.weights, original.sigma, SIDE
    )
    flipped = other_hand(original.density().numpy())
    np.testing.assert_allclose(flipped, mirrored.density().numpy(), atol=1e-6)
    np.testing.assert_array_equal(other_hand(flipped), original.density().numpy())


def test_a_low_pass_keeps_what_is_coarse_and_removes_what_is_fine():
    axis = np.arange(SIDE)
    coarse = np.cos(2 * np.pi * 3 * axis / SIDE).astype(np.float32)
    fine = np.cos(2 * np.pi * 9 * axis / SIDE).astype(np.float32)
    volume = np.broadcast_to(coarse + fine, (SIDE, SIDE, SIDE))
    # 2 A voxels: shells 3 and 9 of 64 A are 21 A and 7 A
    filtered = low_pass(volume, 12.0, 2.0)
    np.testing.assert_allclose(filtered, np.broadcast_to(coarse, volume.shape), atol=1e-5)
    assert filtered.dtype == np.float32


def test_a_low_pass_is_a_factor_on_each_shell():
    volume = torch.randn(SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    half = torch.from_numpy(low_pass(volume.numpy(), SIDE / 8.0, 1.0))
    # one of the two shells of the edge: cos^2(pi/4)
    assert spectrum_to_volume(volume_to_spectrum(half)).isfinite().all()
    ratio = volume_to_spectrum(half)[0, 0, :].abs() / volume_to_spectrum(volume)[0, 0, :].abs()
    np.testing.assert_allclose(ratio[[0, 7, 8, 9, 10, 12]], [1, 1, 1, 0.5, 0, 0], atol=1e-4)


def facts_of(tmp_path, volume: np.ndarray, voxel_size: float) -> tuple[dict, list[str]]:
    write_volume(tmp_path / "map.mrc", volume, voxel_size)
    return describe_volume(tmp_path / "map.mrc")


def test_a_good_map_has_no_problems(tmp_path):
    facts, problems = facts_of(tmp_path, phantom().density().numpy(), 3.5)
    assert problems == []
    assert facts["voxel_size_angstrom"] == pytest.approx(3.5)
    assert facts["box_size"] == [SIDE, SIDE, SIDE]


def test_an_inverted_map_is_recognised(tmp_path):
    _, problems = facts_of(tmp_path, -phantom().density().numpy(), 3.5)
    assert "inverted" in problems[0]


def test_a_flat_map_with_nan_and_no_voxel_size_has_three_problems(tmp_path):
    volume = np.zeros((SIDE, SIDE, SIDE), dtype=np.float32)
    volume[0, 0, 0] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):  # mrcfile's, when it writes
        _, problems = facts_of(tmp_path, volume, 1.0)
    assert len(problems) == 3
