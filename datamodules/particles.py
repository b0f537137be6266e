"""A particle file as a stream of batches that are ready for the model."""

from pathlib import Path

import pytorch_lightning as pl
from jaxtyping import Float
from torch import Tensor

from cryoem.batch import Pose
from cryoem.geometry import ImageGeometry
from cryoem.preprocess import Normalisation, Preprocess


class ParticleDataModule(pl.LightningDataModule):
    """Particles from a ``.star``, ``.cs``, ``.mrcs`` or ``.txt`` file.

    Parameters
    ----------
    particles, root, passthrough
        The file; the folder its relative paths start from; cryoSPARC's second file.
    poses, ctf
        Files that override what the particle file holds (also cryoDRGN's ``.pkl``).
    box_size
        Fourier-crop to this even size while loading; the file's own size when None.
    sign
        ``auto`` (decided by experiment, needs poses), ``dark`` or ``light``.
    select
        Rows to use: a file of indices or ``first:1000``.
    placement
        ``ram``: read once; ``stream``: read each batch from disk; ``gpu``: as ram, on the device;
        ``auto``: ram where the images take less than 40 % of the free memory, else stream.
    batch_size
        Images per step over *all* devices.
    num_workers
        Processes that read; None means 0 for ram and gpu, 2 for stream.
    pixel_size
        In angstrom, only for files that do not say.
    window
        Inner and outer radius of the real-space window in half sides, or None.
    seed
        Of the order of the particles, which is a function of ``(seed, epoch)`` only.
    halves
        Whether the rows of a batch are ordered by half-set, with ``split`` set.

    After :meth:`setup` (idempotent; call it before building the model, Lightning calls it again):

    ``source``, ``table``
        What :func:`cryoem.io.open_particles` returned and its ``.table``.
    ``geometry``
        Of the training box (after the crop).
    ``pose``
        All poses, shifts in pixels of the training box; None if the files hold none.
    ``normalisation``, ``preprocess``
        What turns the file's images into model input; ``data_scale`` is its factor, positive:
        volumes in units of the file are the model's divided by it.
    ``amplitude``
        ``(box_size,)`` root of the signal power per shell: the scale of the decoder's output.
    ``truth``
        Folder of the ground truth, None for real data.
    """

    geometry: ImageGeometry
    pose: Pose | None
    normalisation: Normalisation
    preprocess: Preprocess
    data_scale: float
    amplitude: Float[Tensor, " shell"]
    truth: Path | None = None

    def __init__(
        self,
        particles: str | Path,
        *,
        root: str | Path | None = None,
        passthrough: str | Path | None = None,
        poses: str | Path | None = None,
        ctf: str | Path | None = None,
        box_size: int | None = None,
        sign: str = "auto",
        select: str | Path | None = None,
        placement: str = "auto",
        batch_size: int = 64,
        num_workers: int | None = None,
        pixel_size: float | None = None,
        window: tuple[float, float] | None = (0.85, 0.99),
        seed: int = 0,
        halves: bool = True,
    ) -> None:
        super().__init__()
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Open the file, decide the sign, measure the normalisation and the amplitude, load."""
        raise NotImplementedError
