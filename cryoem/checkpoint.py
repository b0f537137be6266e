"""Reading a run back: networks rebuilt from the description that its checkpoint holds.

Neither the configuration files nor Lightning are needed, and no code in the file is run: tensors
and plain containers are all that ``weights_only`` lets through, and only classes of this package
are built.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cryoem.batch import Pose
from cryoem.decoders.base import Decoder
from cryoem.decoders.framed import in_frame
from cryoem.encoders.base import Encoder
from cryoem.errors import InputError
from cryoem.geometry import ImageGeometry
from cryoem.lattice import FourierLattice

KEY = "reconstruction"


@dataclass(frozen=True)
class LoadedRun:
    """A finished or interrupted run.

    ``decoders`` are two for a homogeneous model (half-sets), else one. Volumes are in the units of
    the file after division by ``data_scale``. ``latent_mean`` and ``latent_std`` are those of
    ``latents.npz``, None until a run has ended; the decoders take latents of the frame they are in.
    """

    kind: str
    decoders: list[Decoder]
    encoder: Encoder | None
    latent_dim: int
    lattice: FourierLattice
    geometry: ImageGeometry
    data_scale: float
    pose: Pose
    config: dict[str, Any]
    epoch: int
    step: int
    latent_mean: Tensor | None = None
    latent_std: Tensor | None = None


def describe(factory: Callable[..., Any]) -> dict[str, Any]:
    """Name and keywords of a factory (a class, or ``functools.partial`` of one), as plain values.

    Raises
    ------
    ValueError
        If a keyword could not be kept in a checkpoint.
    """
    keywords: dict[str, Any] = {}
    while isinstance(factory, partial):
        if factory.args:
            raise ValueError(f"give the arguments of {factory.func} by name, got {factory.args}")
        keywords = {**factory.keywords, **keywords}
        factory = factory.func
    return {"_target_": f"{factory.__module__}.{factory.__qualname__}", **plain(keywords)}


def plain(value: Any) -> Any:
    """Copy of nested containers of numbers and text, with lists for tuples and text for paths.

    Raises
    ------
    ValueError
        If there is anything else in them.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise ValueError(f"a checkpoint holds numbers, text, lists and dicts, not {type(value)}")


def build(description: dict[str, Any], **arguments: Any) -> Any:
    """Call what :func:`describe` described, with further arguments.

    Raises
    ------
    InputError
        If it is not a class of this package.
    """
    keywords = {key: value for key, value in description.items() if key != "_target_"}
    module, _, name = description["_target_"].rpartition(".")
    if not module.startswith("cryoem."):
        raise InputError(f"the checkpoint asks for {module}.{name}; only cryoem.* is built")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise InputError(
            f"the checkpoint asks for {module}.{name}, which this version of cryoem does not have"
        ) from None
    return factory(**keywords, **arguments)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of a run folder, or a ``.ckpt`` file, onto the CPU.

    Raises
    ------
    InputError
        If there is none, or it is not one of ours.
    """
    path = Path(path)
    file = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such checkpoint; give a run folder or a .ckpt file")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: not a checkpoint that can be read safely ({reason})") from None
    if not isinstance(checkpoint, dict) or KEY not in checkpoint:
        raise InputError(f"{file}: not a checkpoint of a cryoem run (no {KEY!r} in it)")
    return checkpoint


def load_run(path: str | Path, device: torch.device | str = "cpu") -> LoadedRun:
    """Rebuild the networks of a run, in evaluation mode.

    Parameters
    ----------
    path
        Run folder or ``.ckpt`` file.
    device
        Where to put the networks.

    Raises
    ------
    InputError
        If it cannot be read or holds something that this version does not know.
    """
    checkpoint = read_checkpoint(path)
    about, weights = checkpoint[KEY], checkpoint["state_dict"]
    geometry = ImageGeometry(**about["geometry"])
    lattice = FourierLattice(geometry.box_size, about["radius"])
    shape = {"latent_dim": about["latent_dim"]}
    decoders = [
        _restore(
            build(about["decoder"], box_size=geometry.box_size, **shape),
            weights, f"forward_models.{i}.decoder.", device,
        )
        for i in range(about["n_decoders"])
    ]  # fmt: skip
    encoder = None
    if about["encoder"] is not None:
        encoder = build(
            about["encoder"], lattice=lattice, n_particles=geometry.n_particles, **shape
        )
        encoder = _restore(encoder, weights, "encoder.", device)
    mean, std, frame = _read_latents(Path(path), geometry.n_particles)
    return LoadedRun(
        kind=about["kind"],
        decoders=in_frame(decoders, frame),
        encoder=encoder,
        latent_dim=about["latent_dim"],
        lattice=lattice.to(device),
        geometry=geometry,
        data_scale=about["data_scale"],
        pose=Pose(about["pose"]["rotation"], about["pose"]["shift"]),
        config=about["config"],
        epoch=checkpoint["epoch"],
        step=checkpoint["global_step"],
        latent_mean=mean,
        latent_std=std,
    )


def weights_of(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Entries of a state dict below ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _restore(
    module: nn.Module, state: dict[str, Any], prefix: str, device: torch.device | str
) -> Any:
    try:
        module.load_state_dict(weights_of(state, prefix))
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights {prefix}* do not fit: {error}") from None
    return module.to(device).eval()


def _read_latents(
    path: Path, n_particles: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    folder = path if path.is_dir() else path.parent.parent
    file = folder / "latents.npz"
    if not file.is_file():
        return None, None, None
    with np.load(file, allow_pickle=False) as latents:
        mean, std = torch.from_numpy(latents["z"]), torch.from_numpy(latents["z_std"])
        frame = torch.from_numpy(latents["frame"]) if "frame" in latents else None
    if len(mean) != n_particles:
        raise InputError(f"{file}: {len(mean)} rows, but the run has {n_particles} particles")
    return mean, std, frame
