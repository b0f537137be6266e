"""From the command line to a configuration, with every mistake explained in a line or two."""

import argparse
import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from conf.schema import register_schemas
from conf.stored import moved
from cryoem.errors import InputError

CONF = Path(__file__).parent


def groups() -> dict[str, list[str]]:
    """Every configuration group with its choices, from the YAML files."""
    found: dict[str, list[str]] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        if file.parent != CONF:
            found.setdefault(file.parent.relative_to(CONF).as_posix(), []).append(file.stem)
    return found


def parse(argv: list[str], description: str) -> argparse.Namespace:
    """Split a command line into options and overrides; ``--help`` lists groups and choices.

    Raises
    ------
    InputError
        For ``--multirun``: processes of one training would each start all the others.
    """
    if {"-m", "--multirun"} & set(argv):
        raise InputError(
            "--multirun: one process does not train many times.\n"
            "python sweep.py takes the same key=a,b and gives every training its own processes"
        )
    width = max(map(len, groups()))
    choices = "\n".join(f"  {g:{width}s}  {', '.join(names)}" for g, names in groups().items())
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"groups and their choices:\n{choices}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="group=choice or key=value")
    parser.add_argument("--config-dir", help="a folder with more choices, or with a config.yaml")
    parser.add_argument("--config-name", default="train", help="the primary file, without .yaml")
    parser.add_argument("--cfg", choices=["job"], help="print the configuration, run nothing")
    return parser.parse_intermixed_args(argv)


def compose(
    overrides: list[str], config_name: str = "train", config_dir: str | None = None
) -> DictConfig:
    """Compose the configuration; interpolations are not resolved yet.

    A command that chooses neither data nor an experiment is about its particle file if it names
    one, and the demo if it does not.

    Raises
    ------
    InputError
        For an unknown key or choice, a value of the wrong type, or a line that cannot be parsed.
    """
    register_schemas()
    chosen = {override.partition("=")[0].lstrip("+") for override in overrides}
    full = [override for override in overrides if override != "experiment=null"]
    if config_name == "train" and not chosen & {"data", "experiment"}:
        full.insert(0, "data=particles" if "data.particles" in chosen else "experiment=demo")
    try:
        with _search_path(config_name, config_dir) as extra:
            config = hydra.compose(config_name, [*full, *extra])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(explain(error, overrides)) from error
    stored = Path(config_dir or "", f"{config_name}.yaml")
    if config_dir is not None and stored.is_file():
        config = _in_its_folder(config, stored)
    return config


def _in_its_folder(config: DictConfig, stored: Path) -> DictConfig:
    """Let a configuration that a run has stored point to the folder it has now."""
    old = OmegaConf.select(OmegaConf.load(stored), "output_dir")
    new = config.get("output_dir")
    if not isinstance(old, str) or not isinstance(new, str):
        return config
    return OmegaConf.create(moved(OmegaConf.to_container(config), old, new))


@contextmanager
def _search_path(config_name: str, config_dir: str | None) -> Iterator[list[str]]:
    """Start Hydra where the primary file is; yields the override that adds the other folder."""
    folder = Path(config_dir).resolve() if config_dir is not None else None
    if folder is None:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            yield []
    elif (folder / f"{config_name}.yaml").is_file():
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            yield ["hydra.searchpath=[pkg://conf]"]
    else:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            yield [f"hydra.searchpath=['file://{folder}']"]


def explain(error: Exception, overrides: list[str]) -> str:
    """Say in one or two lines what is wrong with a command line, and the way out."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        names = [name for name in error.options if not name.endswith("_schema")]
        return f"{group}={choice}: no such choice.\nChoose one of: {', '.join(sorted(names))}"
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read {error.override!r}: expected group=choice or key=value.\n"
            "A value with spaces or special characters needs quotes inside quotes: 'key=\"value\"'"
        )
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(str(cause.full_key), cause.parent_node)
    if isinstance(cause, OmegaConfBaseException):
        value = next((o for o in overrides if o.startswith(f"{cause.full_key}=")), cause.full_key)
        return f"{value}: {str(cause).splitlines()[0]}"
    first = str(error).splitlines()[0]
    if first.startswith("Ambiguous value"):
        first += "; for a training with each value: python sweep.py"
    return f"cannot use {' '.join(overrides)!r}: {first}"


def _unknown_key(full_key: str, parent: Any) -> str:
    prefix, _, name = full_key.rpartition(".")
    known = {str(key) for key in _keys(parent)} - {"hydra"}
    if not prefix:
        known |= {group for group in groups() if "/" in group} | {"experiment"}
    close = difflib.get_close_matches(name, known, n=1)
    dot = prefix and f"{prefix}."
    hint = f"; did you mean {dot}{close[0]}?" if close else "."
    if prefix in ("trainer", "logger", "callbacks"):
        hint += f" To add one: +{full_key}=..."
    where = prefix or "the root"
    return f"{full_key}: no such key{hint}\nKnown in {where}: {', '.join(sorted(known))}"


def _keys(parent: Any) -> Iterable[Any]:
    shown = parent.keys() if isinstance(parent, DictConfig) else ()
    return (key for key in shown if not str(key).startswith("_"))


def resolve(config: DictConfig) -> DictConfig:
    """Resolve every interpolation, so that what is stored does not depend on the machine's state.

    Raises
    ------
    InputError
        For a mandatory value that is not given, or an interpolation of a key that does not exist.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if not missing:
            OmegaConf.resolve(config)
            return config
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    lines = " ".join(f"{key}=..." for key in missing)
    raise InputError(f"not given: {', '.join(missing)}.\nAdd to the command: {lines}")
