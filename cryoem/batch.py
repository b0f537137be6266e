"""What travels between files, workers, the device and the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

Record = TypeVar("Record", bound="TensorRecord")


class TensorRecord:
    """A frozen dataclass whose fields are tensors, records of tensors, or None.

    It can be moved, pinned and indexed as one, which is all that Lightning and a data loader ask.
    """

    def _map(self: Record, function: Callable[[Any], Any]) -> Record:
        changes = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, TensorRecord)):
                changes[field.name] = function(value)
        return replace(self, **changes)  # type: ignore[type-var]

    def to(self: Record, device: torch.device | str, non_blocking: bool = True) -> Record:
        """Return a copy on ``device``."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self: Record) -> Record:
        """Return a copy in page-locked memory, for asynchronous copies to a device."""
        return self._map(lambda value: value.pin_memory())

    def __getitem__(self: Record, rows: Tensor | slice) -> Record:
        """Return the given rows of every field."""
        return self._map(lambda value: value[rows])


def concatenate(parts: Sequence[Record]) -> Record:
    """One record with the rows of several, in turn; None where the first has None."""

    def joined(values: list[Any]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        return concatenate(values) if isinstance(values[0], TensorRecord) else values[0]

    names = [field.name for field in fields(parts[0])]  # type: ignore[arg-type]
    changes = {name: joined([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class CTFParams(TensorRecord):
    """Contrast-transfer parameters, one row per particle, in the units of RELION's columns.

    Underfocus is positive. ``b_factor_angstrom2`` is an envelope ``exp(-B s^2 / 4)`` and ``scale``
    a factor on the whole transfer function (``rlnCtfBfactor``, ``rlnCtfScalefactor``).
    """

    defocus_u_angstrom: Float[Tensor, " batch"]
    defocus_v_angstrom: Float[Tensor, " batch"]
    defocus_angle_degrees: Float[Tensor, " batch"]
    voltage_kilovolts: Float[Tensor, " batch"]
    spherical_aberration_mm: Float[Tensor, " batch"]
    amplitude_contrast: Float[Tensor, " batch"]
    phase_shift_degrees: Float[Tensor, " batch"]
    b_factor_angstrom2: Float[Tensor, " batch"]
    scale: Float[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.defocus_u_angstrom)


@dataclass(frozen=True)
class Pose(TensorRecord):
    """Orientation and in-plane shift, in the convention of :mod:`cryoem.conventions`.

    ``rotation`` is RELION's Euler matrix ``A``; a slice is sampled at ``freqs @ rotation``.
    ``shift`` (pixels, x y) is applied *to the image* to centre the particle (``rlnOrigin``).
    """

    rotation: Float[Tensor, "*batch 3 3"]
    shift: Float[Tensor, "*batch 2"]

    def __len__(self) -> int:
        return len(self.rotation)


@dataclass(frozen=True)
class RawBatch(TensorRecord):
    """Images as they lie in the file, with what belongs to each: the work of a loader's worker."""

    index: Int64[Tensor, " batch"]
    images: Float[Tensor, "batch side side"]
    pixel_size_angstrom: Float[Tensor, " batch"]
    ctf: CTFParams | None = None
    split: int | None = None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class ParticleBatch(TensorRecord):
    """Images ready for the model: half-discs of Fourier transforms, noise of unit variance.

    ``index`` is the row in the particle table, before any shuffle. Where half-sets are wanted, the
    rows before ``split`` belong to the first half and the rest to the second; a plain number made
    by the loader, so that no step has to ask the device which particle is whose.
    """

    index: Int64[Tensor, " batch"]
    fourier: Complex[Tensor, "batch freq"]
    pixel_size_angstrom: Float[Tensor, " batch"]
    ctf: CTFParams | None = None
    split: int | None = None

    def __len__(self) -> int:
        return len(self.index)
