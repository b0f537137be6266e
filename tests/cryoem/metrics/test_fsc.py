import math

import numpy as np
import pytest
import torch

from cryoem.decoders.phantom import random_phantom
from cryoem.metrics.corrected import corrected_fsc, randomise_phases
from cryoem.metrics.fsc import FSCCurve, fsc, shell_index
from cryoem.metrics.mask import ball_mask

SIDE = 32


def noise(seed: int, side: int = SIDE) -> torch.Tensor:
    return torch.randn(side, side, side, generator=torch.Generator().manual_seed(seed))


def brute_force(a: torch.Tensor, b: torch.Tensor, low: float, high: float) -> float:
    """The definition, over the full transform in double precision, ``low <= |k| < high``."""
    side = a.shape[0]
    first, second = np.fft.fftn(a.numpy().astype(float)), np.fft.fftn(b.numpy().astype(float))
    k = np.fft.fftfreq(side, 1 / side)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    shell = (radius >= low) & (radius < high)
    cross = (first[shell] * second[shell].conj()).sum().real
    return cross / math.sqrt((np.abs(first[shell]) ** 2).sum() * (np.abs(second[shell]) ** 2).sum())


def curve_of(*values: float) -> FSCCurve:
    return FSCCurve(np.arange(len(values)) / (2 * len(values)), np.array(values))


def test_half_the_transform_with_hermitian_weights_gives_the_sums_of_the_whole() -> None:
    a = noise(0)
    b = a + noise(1)
    curve = fsc(a, b).correlation
    for i in (0, 1, 2, 7, 15):
        assert curve[i] == pytest.approx(brute_force(a, b, i - 0.5, i + 0.5), abs=1e-6)


def test_cryobench_shells_are_left_of_their_frequency_and_begin_with_one() -> None:
    a = noise(0)
    b = a + noise(1)
    curve = fsc(a, b, shells="cryobench").correlation
    assert curve[0] == 1
    for i in (1, 2, 7, 15):
        assert curve[i] == pytest.approx(brute_force(a, b, i - 1, i), abs=1e-6)


@pytest.mark.parametrize("shells", ["centred", "cryobench"])
@pytest.mark.parametrize("side", [16, 64])
def test_a_volume_with_itself_has_the_largest_area(shells: str, side: int) -> None:
    curve = fsc(noise(2, side), 3 * noise(2, side), shells=shells)
    np.testing.assert_allclose(curve.correlation, 1, atol=1e-6)
    assert curve.auc() == pytest.approx((side / 2 - 1) / side, abs=1e-6)
    assert curve.auc_norm() == pytest.approx(1, abs=1e-6)
    assert curve.mean() == pytest.approx(1, abs=1e-6)


def test_opposite_contrast_gives_minus_one() -> None:
    np.testing.assert_allclose(fsc(noise(3), -noise(3)).correlation, -1, atol=1e-6)


def test_a_chiral_density_does_not_correlate_with_its_mirror_image() -> None:
    phantom = random_phantom(40, 9.0, 1.5, SIDE, torch.Generator().manual_seed(4))
    density = phantom.density()
    assert fsc(density, density.flip(0).roll(1, 0)).mean() < 0.5


def test_half_maps_of_known_noise_have_the_correlation_of_their_signal_to_noise_ratio() -> None:
    # FSC = SNR / (1 + SNR); with SNR 4 in every shell, 0.8. A shell of n independent points is
    # known to (1 - FSC^2) / sqrt(n), 0.003 for 16,000.
    signal = 2 * noise(5, 64)
    curve = fsc(signal + noise(6, 64), signal + noise(7, 64)).correlation
    assert np.mean(curve[20:]) == pytest.approx(0.8, abs=0.005)


def test_independent_noise_does_not_correlate() -> None:
    points = torch.bincount(shell_index(64).flatten()).numpy()[10:32]
    curve = fsc(noise(8, 64), noise(9, 64)).correlation[10:]
    assert np.std(curve * np.sqrt(points)) == pytest.approx(1, abs=0.5)


def test_a_mask_is_applied_to_both_volumes_in_real_space() -> None:
    mask = ball_mask(SIDE)
    a, b = noise(10), noise(11)
    expected = fsc(a * mask, b * mask).correlation
    np.testing.assert_array_equal(fsc(a, b, mask).correlation, expected)


def test_resolution_is_interpolated_at_the_first_crossing_only() -> None:
    # shells 0..7 of a box of 16: from 0.7 at shell 3 to 0.3 at shell 4, and up again
    curve = curve_of(1, 1, 0.9, 0.7, 0.3, 0.6, 0.1, 0.1)
    assert curve.resolution(0.5, voxel_size=2.0) == pytest.approx(2.0 * 16 / 3.5)
    assert not curve.at_nyquist(0.5)
    assert curve.resolution(0.143, 2.0) == pytest.approx(2.0 * 16 / (5 + (0.6 - 0.143) / 0.5))


def test_a_curve_that_never_falls_is_flagged_and_one_that_starts_below_has_no_resolution() -> None:
    assert curve_of(1, 1, 0.9, 0.8).resolution(0.5, 1.5) == 3.0
    assert curve_of(1, 1, 0.9, 0.8).at_nyquist(0.5)
    assert math.isnan(curve_of(1, 0.4, 0.9, 0.8).resolution(0.5, 1.5))
    assert not curve_of(1, 0.4, 0.9, 0.8).at_nyquist(0.5)


def test_the_area_clips_negative_values_and_does_not_read_the_mean_of_the_volume() -> None:
    assert curve_of(-1, 1, -0.5, -0.5).auc() == pytest.approx((1 + 0.5) / 8)


def test_an_empty_shell_is_not_a_number() -> None:
    curve = fsc(torch.zeros(16, 16, 16), noise(18, 16))
    assert np.isnan(curve.correlation).all()
    assert math.isnan(curve.resolution(0.5, 1.0))


def test_odd_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="even side"):
        fsc(torch.zeros(9, 9, 9), torch.zeros(9, 9, 9))


def test_random_phases_leave_amplitudes_and_inner_shells_alone() -> None:
    volume = noise(12)
    random = randomise_phases(volume, 5, torch.Generator().manual_seed(0))
    before, after = torch.fft.rfftn(volume), torch.fft.rfftn(random)
    # a real volume again: the inverse transform loses nothing of the randomised spectrum
    torch.testing.assert_close(after.abs(), before.abs(), rtol=1e-3, atol=1e-2)
    inner = shell_index(SIDE) < 5
    torch.testing.assert_close(after[inner], before[inner], rtol=1e-4, atol=1e-3)
    assert abs(fsc(volume, random).correlation[8:].mean()) < 0.05


def test_the_correction_removes_what_the_mask_adds() -> None:
    # Signal up to shell 10, noise of its own in each half everywhere. A tight ball leaks the strong
    # signal into the shells beyond 10, where the masked curve is positive though nothing is there.
    side = 64
    signal = torch.fft.rfftn(noise(13, side))
    signal[shell_index(side) > 10] = 0
    density = 6 * torch.fft.irfftn(signal, s=(side, side, side))
    mask = (ball_mask(side, 0.30, 0.32) > 0.5).float()
    halves = [density + 0.3 * noise(seed, side) for seed in (14, 15)]
    result = corrected_fsc(*halves, mask)
    assert result.first_shell == 11
    beyond = slice(13, 25)
    assert result.masked.correlation[beyond].mean() > 0.3
    assert result.corrected.correlation[beyond].mean() < 0.15
    np.testing.assert_array_equal(result.corrected.correlation[:11], result.masked.correlation[:11])


def test_the_same_seed_randomises_alike() -> None:
    mask = ball_mask(SIDE)
    a, b = noise(16), noise(17)
    first, second = corrected_fsc(a, b, mask), corrected_fsc(a, b, mask)
    np.testing.assert_array_equal(first.corrected.correlation, second.corrected.correlation)
