"""Every choice of every group composes and builds, so a new YAML file is tested by existing."""

import inspect
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from conf.checks import check, problems
from conf.compose import compose, groups, resolve
from conf.schema import SCHEMAS
from cryoem.batch import Pose
from cryoem.errors import InputError
from cryoem.geometry import ImageGeometry

SWEEP = ("hparams", "objective", "cluster")
CHOICES = [f"{g}={c}" for g, choices in groups().items() if g not in SWEEP for c in choices]


def composed(tmp_path: Path, *overrides: str) -> DictConfig:
    """A checked configuration; where it reads a particle file, an empty one stands in."""
    config = compose([*overrides, f"output_dir={tmp_path}/run"])
    assert OmegaConf.missing_keys(config) <= {"data.particles"}
    if OmegaConf.is_missing(config.data, "particles"):
        file = tmp_path / "particles.star"
        file.touch()
        config.data.particles = str(file)
    return check(config)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if choice == "trainer=multinode":  # as a launcher with one process
        monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    # the default encoder is only for decoders that are linear in the latent
    others = ["model/encoder=mlp"] if choice.startswith("model/decoder=") else []
    config = composed(tmp_path, choice, *others)
    hydra.utils.instantiate(config.data)
    callbacks = list(hydra.utils.instantiate(config.callbacks).values())
    loggers = list(hydra.utils.instantiate(config.logger).values())
    if choice != "trainer=gpu" or torch.cuda.is_available():
        hydra.utils.instantiate(config.trainer)(callbacks=callbacks, logger=loggers)
    pose = Pose(torch.eye(3).expand(4, 3, 3).clone(), torch.zeros(4, 2))
    poses = hydra.utils.instantiate(config.poses)(pose)
    model = hydra.utils.instantiate(config.model)(
        ImageGeometry(n_particles=4, box_size=16, pixel_size_angstrom=5.0),
        poses,
        1.0,
        amplitude=torch.ones(16),
    )
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("choice", [f"{g}={c}" for g in SWEEP for c in groups()[g]])
def test_every_choice_of_a_sweep_composes(choice: str) -> None:
    config = resolve(compose([choice], "sweep"))
    for key in config.hparams.space:
        known = OmegaConf.select(compose([]), key.replace("/", "."))
        assert known is not None, f"{key} is no key of train.yaml"


@pytest.mark.parametrize("path", [p for p in SCHEMAS if "/" in p and not p.startswith(SWEEP)])
def test_a_schema_has_only_keys_that_its_class_takes(path: str) -> None:
    node: Any = OmegaConf.structured(SCHEMAS[path])
    target = hydra.utils.get_object(node["_target_"])
    taken: set[str] = set()
    for cls in inspect.getmro(target) if inspect.isclass(target) else [target]:
        taken |= set(inspect.signature(cls).parameters)
    assert {str(key) for key in node if not str(key).startswith("_")} <= taken


def test_without_arguments_it_is_the_demo_and_with_a_file_it_is_that_file() -> None:
    assert compose([]).name == "demo"
    assert compose(["model=homo"]).data._target_ == "datamodules.SimulatedDataModule"
    config = compose(["data.particles=a/b.star"])
    assert (config.name, config.data._target_) == ("b", "datamodules.ParticleDataModule")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.laten_dim=3", "did you mean model.latent_dim?"),
        ("model.latent_dim=abc", "model.latent_dim=abc"),
        ("data.simulation.snr=loud", "data.simulation.snr=loud"),
        ("model/encoder=nope", "Choose one of: "),
        ("modle=homo", "did you mean model?"),
        ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("seed=null", "seed=null"),
        ("seed", "'seed'"),
        ("~seed", "seed"),
        ("name=(a", "'name=(a'"),
        ("seed=1,2", "seed=1,2"),
        ("=3", "'=3'"),
    ],
)
def test_a_mistyped_override_is_explained_in_two_lines(override: str, named: str) -> None:
    with pytest.raises(InputError) as caught:
        check(compose([override]))
    assert named in str(caught.value)
    assert str(caught.value).count("\n") <= 1
    assert "hydra" not in str(caught.value).lower()


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    config = compose(
        [
            "data.particles=missing.star",
            "data.box_size=33",
            "data.sign=blue",
            "data.select=first",
            "data.window=[1,0.5]",
            "model.beta=-1",
            "model.latent_dim=0",
            "trainer.max_epochs=many",
            "trainer.precision=8",
            "resume=perhaps",
        ]
    )
    with pytest.raises(InputError) as caught:
        check(config)
    for key in ("particles", "box_size", "sign", "select", "window", "beta", "latent_dim"):
        assert f"{key}=" in str(caught.value)
    for key in ("max_epochs", "precision", "resume"):
        assert f"{key}=" in str(caught.value)
    assert len(problems(config)) == 10


def test_a_stored_configuration_composes_to_itself(tmp_path: Path) -> None:
    first = composed(tmp_path, "model.latent_dim=3")
    OmegaConf.save(first, tmp_path / "config.yaml")
    again = check(compose([], config_name="config", config_dir=str(tmp_path)))
    assert OmegaConf.to_container(again) == OmegaConf.to_container(first)
    with pytest.raises(InputError, match=r"did you mean model\.latent_dim"):
        compose(["model.laten_dim=4"], config_name="config", config_dir=str(tmp_path))


def test_a_folder_of_ones_own_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose(["experiment=mine"], config_dir=str(tmp_path)).seed == 7
