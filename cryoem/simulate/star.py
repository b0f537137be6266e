"""The particle table of a simulated data set, as RELION 3.1 and later write it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryoem.rotations import to_relion
from cryoem.simulate.acquisition import Acquisition
from cryoem.simulate.settings import Simulation


def write_particle_table(path: Path, settings: Simulation, images: Acquisition, stack: str) -> None:
    """Write an optics table and one row per image; without CTF there are no defocus columns."""
    optics = {
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnOpticsGroup": 1,
        "rlnMicrographOriginalPixelSize": f"{settings.pixel_size_angstrom:.6f}",
        "rlnVoltage": f"{settings.voltage_kilovolts:.6f}",
        "rlnSphericalAberration": f"{settings.spherical_aberration_mm:.6f}",
        "rlnAmplitudeContrast": f"{settings.amplitude_contrast:.6f}",
        "rlnImagePixelSize": f"{settings.pixel_size_angstrom:.6f}",
        "rlnImageSize": settings.box_size,
        "rlnImageDimensionality": 2,
    }
    columns = _particle_columns(settings, images)
    names = [f"{row + 1:06d}@{stack}" for row in range(len(images.pose))]
    numbers = np.stack(list(columns.values()), axis=1)
    rows = [
        f"{name} 1 " + " ".join(f"{value:.6f}" for value in row)
        for name, row in zip(names, numbers, strict=True)
    ]
    labels = ["rlnImageName", "rlnOpticsGroup", *columns]
    table = _table("optics", list(optics), [" ".join(map(str, optics.values()))])
    path.write_text(table + _table("particles", labels, rows))


def _particle_columns(settings: Simulation, images: Acquisition) -> dict[str, np.ndarray]:
    columns = {}
    if images.ctf is not None:
        columns = {
            "rlnDefocusU": images.ctf.defocus_u_angstrom,
            "rlnDefocusV": images.ctf.defocus_v_angstrom,
            "rlnDefocusAngle": images.ctf.defocus_angle_degrees,
            "rlnPhaseShift": images.ctf.phase_shift_degrees,
            "rlnCtfBfactor": images.ctf.b_factor_angstrom2,
        }
    rot, tilt, psi = to_relion(images.pose.rotation)
    origin = images.pose.shift * settings.pixel_size_angstrom
    columns |= {
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": origin[:, 0],
        "rlnOriginYAngst": origin[:, 1],
    }
    return {label: values.numpy() for label, values in columns.items()}


def _table(name: str, labels: Sequence[str], rows: Sequence[str]) -> str:
    header = "".join(f"_{label} #{i + 1}\n" for i, label in enumerate(labels))
    return f"\n# version 30001\n\ndata_{name}\n\nloop_\n{header}" + "\n".join(rows) + "\n\n"
