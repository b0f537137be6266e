"""The contrast transfer function."""

import math

import torch
from jaxtyping import Float
from scipy import constants
from torch import Tensor

from cryoem.batch import CTFParams


def wavelength_angstrom(voltage_kilovolts: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Relativistic wavelength of the electron in angstrom.

    ``h / sqrt(2 m e V (1 + e V / 2 m c^2))``; 0.019687 at 300 kV.
    """
    volts = voltage_kilovolts * 1e3
    numerator = 1e10 * constants.h / math.sqrt(2 * constants.m_e * constants.e)
    relativity = constants.e / (2 * constants.m_e * constants.c**2)
    return numerator / torch.sqrt(volts * (1 + relativity * volts))


def evaluate_ctf(
    freqs: Float[Tensor, "freq _"],
    pixel_size_angstrom: Float[Tensor, " batch"],
    params: CTFParams,
) -> Float[Tensor, "batch freq"]:
    """Contrast transfer of a weak phase object in RELION's sign: ``+w`` at the origin.

    Parameters
    ----------
    freqs
        Cycles per pixel, x first and y second; further columns are not read.
    pixel_size_angstrom
        One value per particle.
    params
        One row per particle. Underfocus is positive.

    Returns
    -------
    Tensor
        Float32 ``(batch, freq)``. Light data are ``CTF * projection``.

    Notes
    -----
    ``-sin(gamma)`` with ``gamma = -pi lambda dz s^2 + pi/2 Cs lambda^3 s^4 - phase shift - atan(w
    / sqrt(1 - w^2))``, times ``scale * exp(-B s^2 / 4)``. Rohou & Grigorieff, J. Struct. Biol. 192,
    216 (2015), eqs. 2 to 5; RELION's ``ctf.h`` uses the same.
    """

    def column(value: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1"]:
        return value[:, None].float()

    scaled = freqs[:, :2].float() / pixel_size_angstrom[:, None, None].float()  # 1/A
    squared = scaled.square().sum(-1)
    azimuth = torch.atan2(scaled[..., 1], scaled[..., 0])
    wavelength = column(wavelength_angstrom(params.voltage_kilovolts))
    mean = column(params.defocus_u_angstrom + params.defocus_v_angstrom) / 2
    half_difference = column(params.defocus_u_angstrom - params.defocus_v_angstrom) / 2
    axis = torch.deg2rad(column(params.defocus_angle_degrees))
    defocus = mean + half_difference * torch.cos(2 * (azimuth - axis))
    aberration = column(params.spherical_aberration_mm) * 1e7  # mm to A
    amplitude = column(params.amplitude_contrast)
    gamma = (
        -math.pi * wavelength * defocus * squared
        + (math.pi / 2) * aberration * wavelength**3 * squared.square()
        - torch.deg2rad(column(params.phase_shift_degrees))
        - torch.asin(amplitude)  # = atan(w / sqrt(1 - w^2)), and defined at w = 1
    )
    envelope = column(params.scale) * torch.exp(-column(params.b_factor_angstrom2) * squared / 4)
    return -torch.sin(gamma) * envelope
