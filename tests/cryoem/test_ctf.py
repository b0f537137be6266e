"""The contrast transfer function: closed forms, an independent implementation, golden values."""

import math

import numpy as np
import torch

from cryoem.batch import CTFParams
from cryoem.ctf import evaluate_ctf, wavelength_angstrom

COLUMNS = {
    "defocus_u_angstrom": 15000.0,
    "defocus_v_angstrom": 15000.0,
    "defocus_angle_degrees": 0.0,
    "voltage_kilovolts": 300.0,
    "spherical_aberration_mm": 2.7,
    "amplitude_contrast": 0.1,
    "phase_shift_degrees": 0.0,
    "b_factor_angstrom2": 0.0,
    "scale": 1.0,
}


def params(**changes: float | np.ndarray) -> CTFParams:
    values = {**COLUMNS, **changes}
    length = max(np.size(value) for value in values.values())
    full = {name: np.broadcast_to(value, (length,)).copy() for name, value in values.items()}
    return CTFParams(**{name: torch.from_numpy(value).double() for name, value in full.items()})


def along(s: list[float], degrees: float = 0.0) -> torch.Tensor:
    """Frequencies at a pixel size of 1 A: cycles per pixel are 1/A."""
    direction = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    return torch.tensor(s)[:, None] * direction


def ctf(freqs: torch.Tensor, parameters: CTFParams, pixel_size: float = 1.0) -> torch.Tensor:
    return evaluate_ctf(freqs, torch.full((len(parameters),), pixel_size), parameters)


def reference(kx, ky, u, v, angle, kv, cs, w, phase, b, scale) -> float:
    """Float64, point by point, with the constants that RELION has."""
    volts = kv * 1000.0
    lam = 12.2643247 / math.sqrt(volts * (1.0 + volts * 0.978466e-6))
    s2 = kx * kx + ky * ky
    azimuth = math.atan2(ky, kx) - math.radians(angle)
    dz = u * math.cos(azimuth) ** 2 + v * math.sin(azimuth) ** 2
    k1 = math.pi / 2 * 2 * lam
    k2 = math.pi / 2 * cs * 1e7 * lam**3
    argument = (
        -k1 * dz * s2 + k2 * s2 * s2 - math.radians(phase) - math.atan(w / math.sqrt(1 - w * w))
    )
    return -math.sin(argument) * scale * math.exp(-b / 4 * s2)


def test_the_electron_wavelength_is_that_of_the_textbook():
    measured = wavelength_angstrom(torch.tensor([100.0, 200.0, 300.0], dtype=torch.float64))
    expected = torch.tensor([0.0370144, 0.0250793, 0.0196875], dtype=torch.float64)
    torch.testing.assert_close(measured, expected, rtol=2e-5, atol=0)


def test_random_parameter_sets_agree_with_an_independent_implementation():
    generator = np.random.default_rng(0)
    n = 20
    rows = {
        "defocus_u_angstrom": generator.uniform(5000, 30000, n),
        "defocus_v_angstrom": generator.uniform(5000, 30000, n),
        "defocus_angle_degrees": generator.uniform(-180, 180, n),
        "voltage_kilovolts": generator.choice([100.0, 200.0, 300.0], n),
        "spherical_aberration_mm": generator.uniform(0, 2.7, n),
        "amplitude_contrast": generator.uniform(0, 0.3, n),
        "phase_shift_degrees": generator.uniform(0, 180, n),
        "b_factor_angstrom2": generator.uniform(0, 100, n),
        "scale": generator.uniform(0.5, 1.5, n),
    }
    freqs = generator.uniform(-0.2, 0.2, (50, 2)).astype(np.float32)
    expected = [
        [reference(*k.astype(float), *row) for k in freqs]
        for row in zip(*rows.values(), strict=True)
    ]
    measured = ctf(torch.from_numpy(freqs), params(**rows)).numpy()
    # phases reach 280 rad, and the wavelengths differ by 6e-6, RELION's constants being rounded
    np.testing.assert_allclose(measured, expected, atol=1e-3)


def test_golden_values_of_another_program_which_has_the_opposite_sign():
    row = params(
        defocus_u_angstrom=15686.0,
        defocus_v_angstrom=17521.4,
        defocus_angle_degrees=87.62907,
    )
    values = ctf(along([0.05, 0.10]), params(**vars_of(row, spherical_aberration_mm=0.001)))
    # its wavelength constants are rounded, which moves the phase by 9e-4 at most
    torch.testing.assert_close(values[0], torch.tensor([0.32663, -0.99816]), rtol=0, atol=1e-3)


def vars_of(row: CTFParams, **changes: float) -> dict[str, float]:
    return {name: float(getattr(row, name)[0]) for name in COLUMNS} | changes


def test_at_the_origin_only_amplitude_contrast_is_transferred():
    values = ctf(torch.zeros(1, 2), params(amplitude_contrast=np.array([0.0, 0.07, 0.1, 1.0])))
    torch.testing.assert_close(values[:, 0], torch.tensor([0.0, 0.07, 0.1, 1.0]))


def test_an_underfocused_lens_first_lets_nothing_through_at_one_wave():
    # w = 0, Cs = 0: sin(pi lambda dz s^2) vanishes where lambda dz s^2 is whole
    wavelength = float(wavelength_angstrom(torch.tensor(300.0)))
    zeros = [math.sqrt(n / (wavelength * 15000.0)) for n in (1, 2, 3)]
    between = [math.sqrt(n / (wavelength * 15000.0)) for n in (0.5, 1.5, 2.5)]
    pure = params(amplitude_contrast=0.0, spherical_aberration_mm=0.0)
    assert float(ctf(along(zeros), pure).abs().max()) < 1e-4
    torch.testing.assert_close(ctf(along(between), pure)[0], torch.tensor([1.0, -1.0, 1.0]))


def test_along_the_astigmatism_angle_the_defocus_is_u_and_across_it_v():
    astigmatic = params(
        defocus_u_angstrom=20000.0, defocus_v_angstrom=10000.0, defocus_angle_degrees=30.0
    )
    radii = [0.02, 0.05, 0.1]
    for degrees, defocus in ((30.0, 20000.0), (120.0, 10000.0), (75.0, 15000.0)):
        round_ = params(defocus_u_angstrom=defocus, defocus_v_angstrom=defocus)
        torch.testing.assert_close(
            ctf(along(radii, degrees), astigmatic), ctf(along(radii), round_), rtol=0, atol=1e-4
        )


def test_swapping_the_defoci_and_turning_the_angle_changes_nothing():
    one = params(defocus_u_angstrom=20000.0, defocus_v_angstrom=12000.0, defocus_angle_degrees=20.0)
    other = params(
        defocus_u_angstrom=12000.0, defocus_v_angstrom=20000.0, defocus_angle_degrees=110.0
    )
    freqs = 0.2 * torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) - 0.1
    torch.testing.assert_close(ctf(freqs, one), ctf(freqs, other), rtol=0, atol=1e-4)


def test_images_are_real_so_the_ctf_is_even():
    freqs = 0.2 * torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) - 0.1
    row = params(defocus_u_angstrom=20000.0, defocus_angle_degrees=20.0)
    torch.testing.assert_close(ctf(freqs, row), ctf(-freqs, row), rtol=0, atol=1e-5)


def test_a_quarter_wave_phase_plate_in_focus_lets_everything_through():
    plate = params(
        defocus_u_angstrom=0.0,
        defocus_v_angstrom=0.0,
        spherical_aberration_mm=0.0,
        amplitude_contrast=0.0,
        phase_shift_degrees=90.0,
    )
    values = ctf(along([0.0, 0.1, 0.3]), plate)
    torch.testing.assert_close(values, torch.ones_like(values))


def test_the_envelope_and_the_scale_multiply():
    freqs = along([0.0, 0.05, 0.1])
    plain, changed = params(), params(b_factor_angstrom2=100.0, scale=0.8)
    envelope = 0.8 * torch.exp(torch.tensor([0.0, -100 * 0.05**2 / 4, -100 * 0.1**2 / 4]))
    torch.testing.assert_close(ctf(freqs, changed), ctf(freqs, plain) * envelope)


def test_the_pixel_size_of_each_particle_turns_cycles_per_pixel_into_angstrom():
    two = params(defocus_u_angstrom=np.array([15000.0, 15000.0]))
    freqs = along([0.1, 0.2])
    values = evaluate_ctf(freqs, torch.tensor([1.0, 2.0]), two)
    torch.testing.assert_close(values[1], ctf(freqs / 2, params())[0], rtol=0, atol=1e-6)


def test_the_result_is_float32_whatever_goes_in():
    assert ctf(along([0.1]).double(), params()).dtype == torch.float32
