"""A particle file as a stream of batches that are ready for the model."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import ParticleBatch, Pose, RawBatch
from cryoem.errors import InputError
from cryoem.fourier import fourier_crop
from cryoem.geometry import ImageGeometry
from cryoem.io.pixels import check_finite, check_varied
from cryoem.io.source import ParticleSource, open_particles
from cryoem.io.table import ParticleTable
from cryoem.lattice import FourierLattice
from cryoem.memory import free_memory_bytes
from cryoem.preflight import decide_sign
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise
from cryoem.spectrum import signal_amplitude
from datamodules.dataset import ImageStore, ParticleDataset
from datamodules.loader import BatchReader, ResumableLoader
from datamodules.order import FileOrder, RankBatches, ShuffledOrder
from datamodules.placement import ImagesInMemory, choose_placement, load_images
from datamodules.stream import ImagesOnDisk, block_size, window_size

log = logging.getLogger(__name__)
SIGNS = {"light": 1, "dark": -1}
SAMPLE = 1000  # images, of which noise and signal are measured
STREAM_WORKERS = 2


class ParticleDataModule(pl.LightningDataModule):
    """Particles from a ``.star``, ``.cs``, ``.mrcs`` or ``.txt`` file, or a folder of shards.

    Parameters
    ----------
    particles, root, passthrough
        The file; the folder its relative paths start from; cryoSPARC's second file.
    poses, ctf
        Files that override what the particle file holds (also cryoDRGN's ``.pkl``).
    box_size
        Fourier-crop to this even size while loading; the file's own size when None.
    sign
        ``auto`` (decided by experiment), ``dark`` or ``light``.
    select
        Rows to use: a file of indices or ``first:1000``.
    placement
        ``stream``: read from disk through a shuffle window; ``ram``, ``gpu``: read and cropped once
        and held in memory or on the device; ``auto``: the last of these in which the images take
        less than 40 % of what is free. All give the same batches in the same order.
    batch_size
        Images per step over *all* devices.
    num_workers
        Processes that read for ``stream``. None: two, or none if one window holds everything.
    pixel_size
        In angstrom, only for files that do not say.
    window
        Inner and outer radius of the real-space window in half sides, or None.
    held_out
        Share of the particles that train nothing: the same ones whatever the seed.
    seed
        Of the order of the particles, which is a function of ``(seed, epoch)`` only.
    halves
        Whether the rows of a batch are ordered by half-set, with ``split`` set.

    After :meth:`setup` (idempotent; call it before building the model, Lightning calls it again):

    ``source``, ``table``
        What :func:`cryoem.io.open_particles` returned and its ``.table``.
    ``geometry``, ``lattice``
        Of the training box (after the crop), up to Nyquist.
    ``pose``
        All poses, shifts in pixels of the training box; None if the files hold none.
    ``binning``
        Pixels of the file per pixel of the training box.
    ``half``
        Half-set of each particle: the file's, or every other row.
    ``held_out``
        Rows of the particles that train nothing, in order.
    ``normalisation``, ``preprocess``
        What turns the file's images into model input; ``data_scale`` is its factor, positive:
        volumes in units of the file are the model's divided by it.
    ``amplitude``
        ``(box_size,)`` root of the signal power per shell: the scale of the decoder's output.
    ``truth``
        Folder of the ground truth, None for real data.
    """

    source: ParticleSource
    table: ParticleTable
    geometry: ImageGeometry
    lattice: FourierLattice
    pose: Pose | None
    binning: float
    half: Int64[Tensor, " particle"]
    held_out: Int64[Tensor, " row"]
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
        placement: str = "stream",
        batch_size: int = 64,
        num_workers: int | None = None,
        pixel_size: float | None = None,
        window: Sequence[float] | None = (0.85, 0.99),
        held_out: float = 0.0,
        seed: int = 0,
        halves: bool = True,
    ) -> None:
        super().__init__()
        self.particles = Path(particles)
        self.files = {"root": root, "passthrough": passthrough, "poses": poses, "ctf": ctf}
        self.select = select
        self.pixel_size = pixel_size
        self.box_size = box_size
        self.sign = sign
        self.placement = placement
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.window = None if window is None else (float(window[0]), float(window[1]))
        self.held_out_share = held_out
        self.seed = seed
        self.halves = halves
        self._images: ImageStore | None = None
        self._constant: set[int] = set()

    def setup(self, stage: str | None = None) -> None:
        """Open the file, decide the sign, measure noise and signal, load what is to be loaded.

        Raises
        ------
        InputError
            If anything about the files is wrong.
        """
        if self._images is not None:
            return
        self._check_settings()
        self.source = open_particles(
            self.particles, select=self.select, pixel_size_angstrom=self.pixel_size, **self.files
        )
        self.table = self.source.table
        for note in self.table.notes:
            log.warning("%s: %s", self.particles, note)
        self._crop()
        self.half = self.table.half_sets()
        self.held_out = _draw(len(self.table), self.held_out_share)
        sample = self._sample()
        sign = SIGNS.get(self.sign) or self._sign_by_experiment()
        mean, noise = estimate_noise(sample.images)
        self.normalisation = Normalisation(mean, noise, sign)
        source_box = self.source.geometry.box_size
        self.preprocess = Preprocess(source_box, self.lattice, self.normalisation, self.window)
        self.data_scale = abs(self.preprocess.scale)
        self.amplitude = signal_amplitude(self.preprocess(sample), self.lattice)
        self._images = self._place()

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled batches, this rank's part of each."""
        order = self._shuffled()
        return self._loader(order, self.half if self.halves else None, *self._rank())

    def predict_dataloader(self) -> ResumableLoader:
        """All particles once, in the order of the file, this rank's part of each batch."""
        return self.file_order_loader(*self._rank())

    def file_order_loader(self, rank: int = 0, world_size: int = 1) -> ResumableLoader:
        """All particles once, in the order of the file, one rank's part of each batch."""
        return self._loader(FileOrder(len(self.table), self._window_size()), None, rank, world_size)

    def dataset(self, half: Int64[Tensor, " particle"] | None = None) -> ParticleDataset:
        """Images by row; ``half`` orders the rows of a batch."""
        if self._images is None:
            raise RuntimeError("setup() comes first")
        return ParticleDataset(self._images, self.table, half)

    def image_memory_bytes(self) -> int:
        """What images take up while training: all of them, or two windows of a stream."""
        if isinstance(self._images, ImagesInMemory):
            return self._images.images.nbytes
        n_held = 2 * min(len(self.table), self._window_size())
        return n_held * self.source.geometry.box_size**2 * self.source.dtype.itemsize

    def summary(self) -> dict[str, Any]:
        """What :meth:`setup` decided, in plain values."""
        return {
            "training_box_size": self.geometry.box_size,
            "training_pixel_size_angstrom": self.geometry.pixel_size_angstrom,
            "sign": "light" if self.normalisation.sign > 0 else "dark",
            "noise_std": self.normalisation.noise_std,
            "placement": self.placement,
        }

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> ParticleBatch:
        """Window, normalise and transform, on the device."""
        return self.preprocess.to(batch.index.device)(batch)

    def _crop(self) -> None:
        """Geometry of the training box, and poses in its pixels."""
        given = self.source.geometry
        side = given.box_size if self.box_size is None else self.box_size
        if side % 2 or not 8 <= side <= given.box_size:
            raise InputError(
                f"data.box_size={side} must be even and between 8 and {given.box_size}, "
                f"the size of the images of {self.particles}"
            )
        self.binning = binning = given.box_size / side
        self.geometry = ImageGeometry(given.n_particles, side, given.pixel_size_angstrom * binning)
        self.lattice = FourierLattice(side)
        pose = self.table.pose
        self.pose = None if pose is None else Pose(pose.rotation, pose.shift / binning)

    def _sample(self) -> RawBatch:
        """At most :data:`SAMPLE` images at even strides, cropped."""
        n = len(self.table)
        index = torch.linspace(0, n - 1, min(n, SAMPLE)).round().long()
        images = []
        for part in index.split(100):
            block = self.source.read(part)
            check_finite(block, part, self.table)
            check_varied(block, part, self.table)
            images.append(fourier_crop(block, self.geometry.box_size))
        ctf = self.table.ctf
        return RawBatch(
            index=index,
            images=torch.cat(images),
            pixel_size_angstrom=torch.from_numpy(self.table.pixel_size_angstrom).float()[index],
            ctf=None if ctf is None else ctf[index],
        )

    def _sign_by_experiment(self) -> int:
        evidence = decide_sign(self.source, self.table.pose)
        log.info(
            "data.sign=auto: %s particles (skewness %+.2f, in the halves %+.2f and %+.2f)%s",
            "light" if evidence.sign > 0 else "dark",
            evidence.best.skewness,
            *evidence.best.half_skewness,
            "" if evidence.sign_is_certain else "; not certain, so look at the volume or set it",
        )
        return evidence.sign

    def _place(self) -> ImageStore:
        source, side = self.source, self.geometry.box_size
        n_pixels = len(self.table) * side * side
        exact = source.dtype if side == source.geometry.box_size else torch.float32
        cuda = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        on_device = free_memory_bytes(cuda) if torch.cuda.is_available() else 0
        place = choose_placement(self.placement, n_pixels, exact, free_memory_bytes(), on_device)
        self.placement = place.name
        if place.name == "stream":
            return source
        device = cuda if place.name == "gpu" else torch.device("cpu")
        return load_images(source, side, place.dtype, device)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _shuffled(self) -> ShuffledOrder:
        trains = torch.ones(len(self.table), dtype=torch.bool)
        trains[self.held_out] = False
        rows = trains.nonzero()[:, 0]
        on_disk = rows[self.source.disk_order(rows)]
        sizes = {"block_size": block_size(self.source), "window_size": self._window_size()}
        return ShuffledOrder(self.half, on_disk, self.seed, **sizes)

    def _window_size(self) -> int:
        return window_size(self.source, self.batch_size)

    def _loader(
        self,
        order: ShuffledOrder | FileOrder,
        half: Int64[Tensor, " particle"] | None,
        rank: int,
        world_size: int,
    ) -> ResumableLoader:
        if self.batch_size % world_size:
            raise InputError(
                f"data.batch_size={self.batch_size} is shared by {world_size} devices; "
                f"take a multiple of {world_size}"
            )
        batches = RankBatches(order, self.batch_size, rank, world_size)
        return ResumableLoader(self.dataset(half), batches, self._reader())

    def _reader(self) -> BatchReader:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if isinstance(self._images, ImagesInMemory):
            self._images.serve(device, resident=self.placement == "gpu")
            return self._images
        n, window = len(self.table), self._window_size()
        workers = self.num_workers
        if workers is None:
            workers = STREAM_WORKERS if n > window else 0
        pinned = device.type == "cuda"
        return ImagesOnDisk(self.source, min(n, window), workers, pinned, self._constant)

    def _check_settings(self) -> None:
        if self.sign not in ("auto", *SIGNS):
            raise InputError(f"data.sign={self.sign} is not one of auto, dark, light")
        if self.batch_size < 1:
            raise InputError(f"data.batch_size={self.batch_size} must be at least 1")
        if self.window is not None and not 0 < self.window[0] < self.window[1]:
            raise InputError(
                f"data.window={list(self.window)} must be an inner and a larger outer radius"
            )


def _draw(n: int, share: float) -> Int64[Tensor, " row"]:
    """So many rows of ``n`` at random, the same ones every time."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order[: round(share * n)].sort().values
