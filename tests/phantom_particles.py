"""Particles of an analytic phantom as files, so that a training has an exact answer."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cryoem.batch import CTFParams, ParticleBatch, Pose
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.forward_model import ForwardModel
from cryoem.grids import symmetry_group
from cryoem.io.volume import write_stack
from cryoem.lattice import FourierLattice
from cryoem.rotations import random_rotations, to_relion

PIXEL_SIZE = 3.0


@dataclass(frozen=True)
class PhantomParticles:
    """A particle file and the truth behind it; ``pose.shift`` in pixels."""

    star: Path
    phantom: GaussianPhantom
    pose: Pose
    images: torch.Tensor


def write_phantom_particles(
    folder: Path,
    n: int = 96,
    box_size: int = 16,
    snr: float = 1.0,
    seed: int = 0,
    symmetry: str = "C1",
) -> PhantomParticles:
    """Write ``particles.star`` and ``.mrcs``: random poses, shifts and defocus, white noise."""
    generator = torch.Generator().manual_seed(seed)
    phantom = random_phantom(8, 0.3 * box_size, 1.2, box_size, generator)
    mates = (phantom.centres @ symmetry_group(symmetry).float()).flatten(0, 1)
    weights = phantom.weights.repeat(len(mates) // len(phantom.weights))
    phantom = GaussianPhantom(mates, weights, phantom.sigma, box_size)
    shift = 2 * torch.rand(n, 2, generator=generator) - 1
    pose = Pose(random_rotations(n, generator).float(), shift)
    ctf = _ctf(n, generator)
    lattice = FourierLattice(box_size, box_size // 2 - 1)
    model = ForwardModel(phantom, lattice, PIXEL_SIZE)
    batch = ParticleBatch(
        torch.arange(n), torch.zeros(n, lattice.n_freqs, dtype=torch.complex64),
        torch.full((n,), PIXEL_SIZE), ctf,
    )  # fmt: skip
    slices = model.transfer(batch) * model.slices(pose.rotation, batch.pixel_size_angstrom)
    slices = model.observed(ParticleBatch(batch.index, slices, batch.pixel_size_angstrom), -shift)
    clean = lattice.scatter(slices)
    noise = clean.std() / snr**0.5
    images = clean + noise * torch.randn(*clean.shape, generator=generator)
    write_stack(folder / "particles.mrcs", images.numpy(), PIXEL_SIZE)
    star = folder / "particles.star"
    star.write_text(_star(pose, ctf))
    return PhantomParticles(star, phantom, pose, images)


def _ctf(n: int, generator: torch.Generator) -> CTFParams:
    defocus = 8000 + 8000 * torch.rand(n, generator=generator)
    same = torch.ones(n)
    return CTFParams(
        defocus, defocus, 0 * same, 300 * same, 2.7 * same, 0.1 * same, 0 * same, 0 * same, same
    )


def _star(pose: Pose, ctf: CTFParams) -> str:
    columns = [*to_relion(pose.rotation.double()), *(pose.shift * PIXEL_SIZE).T]
    columns += [ctf.defocus_u_angstrom, ctf.defocus_v_angstrom, ctf.defocus_angle_degrees]
    labels = "ImageName OpticsGroup AngleRot AngleTilt AnglePsi OriginXAngst OriginYAngst "
    labels += "DefocusU DefocusV DefocusAngle"
    rows = [
        f"{i + 1:06d}@particles.mrcs 1 " + " ".join(f"{float(c[i]):.6f}" for c in columns)
        for i in range(len(pose))
    ]
    header = "".join(f"_rln{label}\n" for label in labels.split())
    return (
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnVoltage\n"
        "_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
        f"1 {PIXEL_SIZE} 300.0 2.7 0.1\n\ndata_particles\n\nloop_\n{header}"
        + "\n".join(rows)
        + "\n"
    )
