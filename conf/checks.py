"""What types cannot say: ranges, choices and pairs of keys, all reported at once."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from conf.compose import resolve
from cryoem.errors import InputError

CHOICES: dict[str, tuple[Any, ...]] = {
    "preflight": (True, False, "only"),
    "resume": ("auto", "never", "must"),
    "data.sign": ("auto", "dark", "light"),
    "data.placement": ("auto", "ram", "gpu", "stream"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "poses.strategy": ("beam", "branch_and_bound", "exhaustive"),
}
FILES = ("data.particles", "data.root", "data.passthrough", "data.poses", "data.ctf", "ckpt_path")
WHOLE_AND_POSITIVE = (
    "data.batch_size",
    "data.simulation.n_particles",
    "model.latent_dim",
    "model.encoder.width",
    "model.decoder.width",
    "trainer.max_epochs",
    "trainer.devices",
    "poses.n_keep",
    "poses.start_images",
)
POSITIVE = (
    "data.pixel_size",
    "data.simulation.pixel_size_angstrom",
    "model.optimizer.lr",
    "poses.shift_pixels",
)
NOT_NEGATIVE = ("model.beta", "model.beta_warmup_epochs", "poses.restarts", "seed")
NOT_LAUNCHED = (
    "trainer=multinode: this process is by itself; "
    "torchrun or srun start one for each device, see docs/clusters.md"
)
EVEN = ("data.box_size", "data.simulation.box_size")


def check(config: DictConfig) -> DictConfig:
    """Resolve a composed configuration and refuse it if anything is wrong with it.

    Raises
    ------
    InputError
        With every problem, separated by semicolons.
    """
    found = problems(resolve(config))
    if found:
        raise InputError("; ".join(found))
    return config


def problems(config: DictConfig) -> list[str]:
    """Every problem of a resolved configuration, each with the key, the value and the way out."""
    found = []
    for key, value in _given(config, tuple(CHOICES)):
        if value not in CHOICES[key]:
            found.append(f"{key}={value}: must be one of {_listed(CHOICES[key])}")
    for key, value in _given(config, WHOLE_AND_POSITIVE):
        if (key, value) == ("trainer.devices", "auto"):
            continue
        if not isinstance(value, int) or value < 1:
            found.append(f"{key}={value}: must be a whole number, at least 1")
    for key, value in _given(config, POSITIVE):
        if not value > 0:
            found.append(f"{key}={value}: must be positive")
    for key, value in _given(config, NOT_NEGATIVE):
        if value < 0:
            found.append(f"{key}={value}: must not be negative")
    for key, value in _given(config, EVEN):
        if value < 8 or value % 2:
            found.append(f"{key}={value}: must be even and at least 8")
    for key, value in _given(config, FILES):
        if not Path(value).exists():
            found.append(f"{key}={value}: no such file; paths start from {Path.cwd()}")
    if config.trainer.get("num_nodes") == 0:
        found.append(NOT_LAUNCHED)
    found += [*_selection(config), *_window(config), *_posterior(config)]
    return [*found, *_search(config), *_held_out(config)]


def _listed(choices: tuple[Any, ...]) -> str:
    return ", ".join(str(choice).lower() for choice in choices)


def _selection(config: DictConfig) -> list[str]:
    """``first:N`` or a file."""
    return [
        f"{key}={value}: no such file; for the first rows write {key}=first:1000"
        for key, value in _given(config, ("data.select",))
        if not value.startswith("first:") and not Path(value).exists()
    ]


def _posterior(config: DictConfig) -> list[str]:
    """The exact posterior exists for decoders that are linear in the latent."""
    target = config.model.get("encoder", {}).get("_target_", "")
    linear = ("FourierGrid", "FourierMLPBasis")
    decoder = config.model.decoder._target_
    if not target.endswith("LinearPosterior") or decoder.endswith(linear):
        return []
    return [
        "model/encoder=posterior: needs a decoder that is linear in the latent, not "
        f"{decoder.rpartition('.')[2]}; use model/encoder=mlp or model/decoder=fourier_mlp_basis"
    ]


def _search(config: DictConfig) -> list[str]:
    """Three growing radii; shares that leave something; a volume or a random start, not both."""
    found = [
        f"{key}={list(value)}: must be three growing whole numbers, such as [5,13,32]"
        for key, value in _given(config, ("poses.radii",))
        if len(value) != 3 or not 2 <= value[0] <= value[1] <= value[2]
    ]
    found += [
        f"{key}={value}: must be at least 0 and below {top:g}"
        for key, value in _given(config, ("data.held_out", "poses.held_out", "poses.delta"))
        for top in (0.5 if key.endswith("held_out") else 1.0,)
        if not 0 <= value < top
    ]
    restarts = config.poses.get("restarts")
    if restarts == 0 and config.ckpt_path is None:
        found.append(
            "poses.restarts=0: no volume to search under; give ckpt_path, or a random start"
        )
    if restarts and config.ckpt_path is not None:
        found.append(
            f"ckpt_path={config.ckpt_path}: a random start forgets its volume; set poses.restarts=0"
        )
    return found


def _held_out(config: DictConfig) -> list[str]:
    """Particles that train nothing need a pose and a latent all the same."""
    share = config.data.held_out
    found = []
    if share and "held_out" in config.poses:
        found.append(
            f"data.held_out={share}: a search holds out particles of its own; set poses.held_out"
        )
    if share and config.model.get("encoder", {}).get("_target_", "").endswith("TableEncoder"):
        found.append(
            f"data.held_out={share}: model/encoder=table has no latents for them; choose another"
        )
    return found


def _window(config: DictConfig) -> list[str]:
    return [
        f"{key}={list(value)}: must be two increasing radii in half boxes, such as [0.85,0.99]"
        for key, value in _given(config, ("data.window",))
        if len(value) != 2 or not 0 < value[0] < value[1]
    ]


def _given(config: DictConfig, keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Those keys that exist in this configuration and are not null, with their values."""
    pairs = []
    for key in keys:
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, DictConfig) and part in node else None
        if node is not None:
            pairs.append((key, node))
    return pairs
