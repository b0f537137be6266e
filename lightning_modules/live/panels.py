"""What is looked at while a model trains, as figures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem import figures
from cryoem.analysis.decode import decode_volumes
from cryoem.analysis.path import axis_path
from cryoem.decoders.framed import in_frame, volume_frame
from cryoem.metrics.fsc import fsc
from cryoem.metrics.truth_folder import find_truth
from cryoem.suspicious import worst_explained
from lightning_modules.base import Reconstruction
from lightning_modules.inference import example_images
from lightning_modules.live.record import Epoch

_SMALL_BOX = 48
_ALONG_THE_AXIS = 6
_SHOWN_PARTICLES = 6


def consensus(model: Reconstruction, epoch: Epoch) -> Float[np.ndarray, "z y x"]:
    """The volume of the mean latent, in a small box; of both half-sets together."""
    z = _known(epoch.z).mean(0, keepdims=True) if epoch.has_latents else _no_latent(model)
    return next(_decoded(model, model.decoders, z))


def volume_panels(
    model: Reconstruction, epoch: Epoch, mean: Float[np.ndarray, "z y x"]
) -> dict[str, Figure]:
    """Slices and projections; along the latents' principal axis; FSC between half-sets."""
    geometry = model.geometry
    voxel_size = geometry.pixel_size_angstrom * geometry.box_size / len(mean)
    drawn = {
        "volume": figures.volume_slices(mean, voxel_size),
        "poses": figures.pose_distribution(model.poses.table().rotation.numpy()),
    }
    if epoch.has_latents:
        frame = volume_frame(model.decoders[0], geometry.box_size, model.device)
        path = axis_path(_framed(_known(epoch.z), frame), 0, _ALONG_THE_AXIS)
        series = np.stack(list(_decoded(model, in_frame(model.decoders, frame), path)))
        drawn["motion"] = figures.volume_montage(series)
    if len(model.decoders) == 2:
        first, second = (
            torch.from_numpy(next(_decoded(model, [decoder], None, geometry.box_size)))
            for decoder in model.decoders
        )
        curve = fsc(first, second)
        drawn["fsc"] = figures.fsc_curve({"half maps": curve}, geometry.pixel_size_angstrom)
    return drawn


def particle_panels(model: Reconstruction, data: Any, epoch: Epoch) -> dict[str, Figure]:
    """Latents by what they might tell; the particles that are explained worst."""
    drawn = {}
    if epoch.has_latents:
        known = np.isfinite(epoch.z).all(axis=1)
        frame = volume_frame(model.decoders[0], model.geometry.box_size, model.device)
        quantities = {label: values[known] for label, values in _quantities(model, data).items()}
        drawn["latent_colours"] = figures.latent_colours(_framed(epoch.z[known], frame), quantities)
    worst = worst_explained(epoch.error, _SHOWN_PARTICLES)
    was_training = model.training
    raw, centred, predicted = (
        x.numpy() for x in example_images(model, data, torch.from_numpy(worst))
    )
    model.train(was_training)
    labels = [f"row {data.table.row[i]}\nerror {epoch.error[i]:.3g}" for i in worst]
    drawn["suspicious"] = figures.particle_gallery(raw, centred, predicted, labels)
    return drawn


def _quantities(model: Reconstruction, data: Any) -> dict[str, np.ndarray]:
    """What is known of each particle beside its image."""
    found = {"viewing direction": model.poses.table().rotation[:, 2].numpy()}
    if data.table.ctf is not None:
        found["defocus (µm)"] = data.table.ctf.defocus_u_angstrom.numpy() / 1e4
    truth = None if data.truth is None else find_truth(data.truth).of(data.table.row)
    if truth is not None and truth.coordinate is not None:
        found["true conformation"] = _on_circle(truth.coordinate, truth.period)
    return found


def _on_circle(coordinate: np.ndarray, period: float | None) -> np.ndarray:
    """Cosine and sine of a coordinate that has a period."""
    if period is None:
        return coordinate
    angle = 2 * np.pi * coordinate / period
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _decoded(
    model: Reconstruction, decoders: list, z: np.ndarray | None, box_size: int = _SMALL_BOX
) -> Iterator[Float[np.ndarray, "z y x"]]:
    side = model.geometry.box_size
    return decode_volumes(
        decoders, side, z, data_scale=model.data_scale, device=model.device,
        new_side=min(side, box_size),
    )  # fmt: skip


def _known(z: np.ndarray) -> np.ndarray:
    return z[np.isfinite(z).all(axis=1)]


def _no_latent(model: Reconstruction) -> np.ndarray | None:
    return np.zeros((1, model.latent_dim), dtype=np.float32) if model.latent_dim else None


def _framed(z: np.ndarray, frame: torch.Tensor | None) -> np.ndarray:
    return z if frame is None else z @ torch.linalg.inv(frame).numpy()
