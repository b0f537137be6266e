"""Types of every key of ours, so that a mistyped one fails before any work is done.

Values and comments are in the YAML files. Nodes of others (trainer, loggers, callbacks) stay plain
dictionaries: their own signatures complain.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from conf.launch import devices_per_machine, machines


@dataclass
class Factory:
    """A node that Hydra turns into a callable; ``train.py`` calls it with what a run has learnt."""

    _target_: str = MISSING
    _partial_: bool = True
    _convert_: str = "all"  # plain lists and dicts, not OmegaConf's


@dataclass
class DataConf:
    _target_: str = MISSING
    _convert_: str = "all"
    box_size: int | None = MISSING
    sign: str = MISSING
    window: list[float] | None = MISSING
    placement: str = MISSING
    batch_size: int = MISSING
    num_workers: int | None = MISSING
    held_out: float = MISSING
    seed: int = MISSING


@dataclass
class ParticlesConf(DataConf):
    _target_: str = "datamodules.ParticleDataModule"
    particles: str = MISSING
    root: str | None = MISSING
    passthrough: str | None = MISSING
    poses: str | None = MISSING
    ctf: str | None = MISSING
    select: str | None = MISSING
    pixel_size: float | None = MISSING


@dataclass
class SimulationConf:
    motion: str = MISSING
    n_particles: int = MISSING
    box_size: int = MISSING
    pixel_size_angstrom: float = MISSING
    resolution_angstrom: float | None = MISSING
    snr: float = MISSING
    n_states: int | None = MISSING
    shift_pixels: float = MISSING
    ctf: bool = MISSING
    defocus_range_micrometres: list[float] = MISSING
    b_factor_angstrom2: float = MISSING
    seed: int = MISSING


@dataclass
class SimulatedConf(DataConf):
    _target_: str = "datamodules.SimulatedDataModule"
    folder: str = MISSING
    simulation: SimulationConf = field(default_factory=SimulationConf)


@dataclass
class MLPEncoderConf(Factory):
    _target_: str = "cryoem.encoders.mlp.MLPEncoder"
    width: int = MISSING
    depth: int = MISSING
    radius: int | None = MISSING


@dataclass
class ConvEncoderConf(Factory):
    _target_: str = "cryoem.encoders.conv.ConvEncoder"
    channels: int = MISSING


@dataclass
class TableEncoderConf(Factory):
    _target_: str = "cryoem.encoders.table.TableEncoder"
    lr: float = MISSING
    spread: float = MISSING


@dataclass
class PosteriorConf(Factory):
    _target_: str = "cryoem.encoders.posterior.LinearPosterior"


@dataclass
class FourierGridConf(Factory):
    _target_: str = "cryoem.decoders.fourier_grid.FourierGrid"
    gain: float = MISSING
    prior: float = MISSING
    component_prior: float = MISSING


@dataclass
class FourierMLPConf(Factory):
    _target_: str = "cryoem.decoders.fourier_mlp.FourierMLP"
    width: int = MISSING
    depth: int = MISSING
    encoding: str = MISSING
    n_frequencies: int | None = MISSING
    sigma: float = MISSING
    seed: int = MISSING


@dataclass
class FourierMLPBasisConf(FourierMLPConf):
    _target_: str = "cryoem.decoders.fourier_mlp_basis.FourierMLPBasis"


@dataclass
class OptimizerConf(Factory):
    _target_: str = "lightning_modules.optim.adam"
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclass
class ModelConf(Factory):
    decoder: Factory = MISSING
    optimizer: OptimizerConf = MISSING
    radius: int | None = MISSING
    warmup_fraction: float = MISSING
    final_fraction: float = MISSING


@dataclass
class HomoConf(ModelConf):
    _target_: str = "lightning_modules.HomoReconstruction"


@dataclass
class HeteroConf(ModelConf):
    _target_: str = "lightning_modules.HeteroReconstruction"
    encoder: Factory = MISSING
    latent_dim: int = MISSING
    beta: float = MISSING
    beta_warmup_epochs: float = MISSING


@dataclass
class KnownPosesConf(Factory):
    _target_: str = "cryoem.poses.KnownPoses"


@dataclass
class RefinedPosesConf(Factory):
    _target_: str = "cryoem.poses.RefinedPoses"
    lr_rotation_degrees: float = MISSING
    lr_shift_pixels: float = MISSING
    start_epoch: int = MISSING


@dataclass
class SearchedPosesConf(Factory):
    _target_: str = "cryoem.poses.SearchedPoses"
    strategy: str = MISSING
    symmetry: str = MISSING
    n_keep: int = MISSING
    delta: float = MISSING
    shift_pixels: float | None = MISSING
    radii: list[int] = MISSING
    restarts: int = MISSING
    start_images: int = MISSING
    held_out: float = MISSING
    seed: int = MISSING


@dataclass
class TrainConf:
    name: str = MISSING
    output_dir: str = MISSING
    resume: str = MISSING
    ckpt_path: str | None = MISSING
    preflight: Any = MISSING  # true, false or only
    seed: int = MISSING
    data: DataConf = MISSING
    model: ModelConf = MISSING
    poses: Factory = MISSING
    trainer: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = MISSING


@dataclass
class ClusterConf:
    executor: str = MISSING
    parallel: int = MISSING
    parameters: dict[str, Any] = MISSING


@dataclass
class SubsetConf:
    n_particles: int = MISSING
    box_size: int = MISSING
    epochs: int = MISSING


@dataclass
class HparamsConf:
    sampler: str = MISSING
    trials: int | None = MISSING
    prune: bool = MISSING
    seed: int = MISSING
    space: dict[str, str] = MISSING
    also: dict[str, list[str]] = MISSING
    subset: SubsetConf | None = MISSING


@dataclass
class ObjectiveConf:
    metric: str = MISSING
    column: str | None = MISSING
    maximise: bool = MISSING
    overrides: list[str] = MISSING


@dataclass
class SweepConf:
    name: str = MISSING
    hparams: HparamsConf = MISSING
    objective: ObjectiveConf = MISSING
    cluster: ClusterConf = MISSING


SCHEMAS = {
    "train_schema": TrainConf,
    "sweep_schema": SweepConf,
    "hparams/hparams_schema": HparamsConf,
    "objective/objective_schema": ObjectiveConf,
    "cluster/cluster_schema": ClusterConf,
    "data/particles_schema": ParticlesConf,
    "data/simulated_schema": SimulatedConf,
    "model/hetero_schema": HeteroConf,
    "model/homo_schema": HomoConf,
    "model/encoder/conv_schema": ConvEncoderConf,
    "model/encoder/mlp_schema": MLPEncoderConf,
    "model/encoder/posterior_schema": PosteriorConf,
    "model/encoder/table_schema": TableEncoderConf,
    "model/decoder/fourier_grid_schema": FourierGridConf,
    "model/decoder/fourier_mlp_basis_schema": FourierMLPBasisConf,
    "model/decoder/fourier_mlp_schema": FourierMLPConf,
    "model/optimizer/optimizer_schema": OptimizerConf,
    "poses/known_schema": KnownPosesConf,
    "poses/refine_schema": RefinedPosesConf,
    "poses/search_schema": SearchedPosesConf,
}


def register_schemas() -> None:
    """Tell Hydra the types, and the functions that YAML files may call."""
    store = ConfigStore.instance()
    for path, node in SCHEMAS.items():
        group, _, name = path.rpartition("/")
        store.store(name, node, group=group or None)
    for function in (run_name, machines, devices_per_machine):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)


def run_name(data: DictConfig) -> str:
    """Name a run after its particle file."""
    if OmegaConf.is_missing(data, "particles"):
        return "particles"
    return Path(data.get("particles", "simulated")).stem
