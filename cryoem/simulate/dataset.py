"""A data set with ground truth, written as a folder that appears complete or not at all."""

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.atomic import reserve, writing
from cryoem.simulate.acquisition import (
    Acquisition,
    draw_coordinates,
    draw_ctf,
    draw_poses,
    draw_states,
    nearest_state,
)
from cryoem.simulate.catalogue import find_specimen
from cryoem.simulate.images import Progress, SignalPower, add_noise, render
from cryoem.simulate.motions import Motion, spread
from cryoem.simulate.settings import Simulation
from cryoem.simulate.specimen import Specimen
from cryoem.simulate.star import write_particle_table
from cryoem.simulate.truth_files import write_beads, write_labels, write_summary, write_volumes

_TRUTH_VOLUMES = 10  # of a continuous motion
STACK = "particles.mrcs"


@dataclass(frozen=True)
class SimulatedData:
    """Where things are: the folder, its particle file, and the folder of the ground truth."""

    folder: Path
    particles: Path
    truth: Path


def simulate(
    output: str | Path, *, progress: Progress = lambda done, total: None, **options: Any
) -> SimulatedData:
    """Simulate a particle stack with poses, CTF, noise and known conformations.

    Images are ``+-(CTF * projection of a truth volume) + N(0, 1)``: the truth volumes are in the
    units of the images. Every step before the noise is exact for bead models, without
    interpolation, and right to 1e-5 for maps.

    Parameters
    ----------
    output
        Folder to make; it must not exist, or be empty.
    progress
        Called with the number of images rendered so far, and of all.
    **options
        Fields of :class:`cryoem.simulate.Simulation`: what to simulate.

    Returns
    -------
    SimulatedData
        ``particles.star``, ``particles.mrcs`` and ``truth/`` with ``volume_###.mrc``,
        ``volumes.csv`` (their coordinates), ``mean.mrc``, ``labels.csv``, ``simulation.json`` and,
        for bead models, ``beads.npz`` and ``moving_mask.mrc``.

    Raises
    ------
    InputError
        For numbers out of range, unreadable files, a molecule that does not fit into the box, or
        an output folder that is not empty.
    """
    settings = Simulation(**options)
    output = Path(output)
    with _new_folder(output) as folder:
        _write(folder, settings, progress)
    return SimulatedData(output, output / "particles.star", output / "truth")


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder that takes the name ``output`` on success, and goes on failure."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists and is not empty; choose another folder or remove it")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            yield hidden
            hidden.chmod(0o755)
            hidden.replace(output)
        except InputError as error:  # a file in it could not be written
            raise InputError(str(error).replace(str(hidden), str(output))) from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _write(folder: Path, settings: Simulation, progress: Progress) -> None:
    specimen, motion = find_specimen(settings)
    states = _true_coordinates(settings, motion)
    images = _draw(settings, motion, states)
    scale, power = _write_stack(folder, specimen, settings, images, progress)
    write_particle_table(folder / "particles.star", settings, images, STACK)
    truth = folder / "truth"
    truth.mkdir()
    write_labels(truth, images, states)
    write_volumes(truth, specimen, settings, images, states, scale)
    if motion is not None:
        write_beads(truth, motion, settings)
    write_summary(truth, settings, scale, power)


def _generator(settings: Simulation, purpose: int) -> torch.Generator:
    """Independent streams, so that a change of one parameter leaves the other draws alone."""
    return torch.Generator().manual_seed(settings.seed * 16 + purpose)


def _true_coordinates(settings: Simulation, motion: Motion | None) -> Float[Tensor, " state"]:
    if motion is None or motion.low == motion.high:
        return torch.zeros(1, dtype=torch.float64)
    return spread(motion, settings.n_states or _TRUTH_VOLUMES)


def _draw(
    settings: Simulation, motion: Motion | None, states: Float[Tensor, " state"]
) -> Acquisition:
    n = settings.n_particles
    if settings.n_states is not None or motion is None or motion.low == motion.high:
        state = draw_states(n, states, _generator(settings, 0))
        coordinate = states[state]
    else:
        coordinate = draw_coordinates(n, motion.low, motion.high, _generator(settings, 0))
        period = motion.high - motion.low if motion.circular else None
        state = nearest_state(coordinate, states, period)
    params = None
    if settings.ctf:
        params = draw_ctf(
            n,
            settings.defocus_range_micrometres,
            settings.astigmatism_angstrom,
            settings.voltage_kilovolts,
            settings.spherical_aberration_mm,
            settings.amplitude_contrast,
            settings.b_factor_angstrom2,
            _generator(settings, 1),
        )
    pose = draw_poses(n, settings.shift_pixels, _generator(settings, 2))
    return Acquisition(coordinate, state, pose, params)


def _write_stack(
    folder: Path,
    specimen: Specimen,
    settings: Simulation,
    images: Acquisition,
    progress: Progress,
) -> tuple[float, SignalPower]:
    """Render to a scratch file, measure the power of all images, then scale and add the noise."""
    shape = (settings.n_particles, settings.box_size, settings.box_size)
    scratch = folder / "clean.tmp"
    reserve(scratch, 4 * math.prod(shape))
    clean = np.memmap(scratch, dtype=np.float32, mode="r+", shape=shape)
    power = render(specimen, settings, images, clean, progress)
    signal = settings.snr if math.isfinite(settings.snr) else 1.0
    scale = math.sqrt(signal / power.everywhere)
    mode = {"float32": 2, "float16": 12}[settings.dtype]
    with mrcfile.new_mmap(folder / STACK, shape=shape, mrc_mode=mode) as stack:
        reserve(folder / STACK, stack.header.nbytes + stack.data.nbytes)
        stack.set_image_stack()
        stack.voxel_size = settings.pixel_size_angstrom
        contrast = scale if settings.sign == "light" else -scale
        add_noise(clean, contrast, settings.snr, _generator(settings, 3), out=stack.data)
    del clean
    scratch.unlink()
    return scale, power
