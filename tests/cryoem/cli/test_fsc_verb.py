import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoem.cli.main import main
from cryoem.decoders.phantom import random_phantom
from cryoem.io.volume import read_volume, write_volume
from cryoem.metrics.fsc import fsc

SIDE = 32


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[Path, Path]:
    density = random_phantom(30, 8.0, 1.2, SIDE, torch.Generator().manual_seed(0)).density()
    density = density / density.std()
    generator = torch.Generator().manual_seed(1)
    for name in ("a", "b"):
        noise = torch.randn(density.shape, generator=generator)
        write_volume(tmp_path / f"{name}.mrc", (density + 0.1 * noise).numpy(), 2.5)
    return tmp_path / "a.mrc", tmp_path / "b.mrc"


def run(*arguments: object) -> int:
    return main(["fsc", *map(str, arguments)])


def test_numbers_curves_and_a_picture_are_written(
    volumes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, picture = tmp_path / "fsc.json", tmp_path / "fsc.png"
    options = ["--mask", "tight", "--phase-randomised", "--json", numbers, "--plot", picture]
    assert run(*volumes, *options) == 0
    content = json.loads(numbers.read_text())
    assert content["voxel_size_angstrom"] == 2.5
    assert list(content["curves"]) == ["unmasked", "masked", "randomised", "corrected"]
    unmasked = content["curves"]["unmasked"]
    assert len(unmasked["correlation"]) == len(content["frequency_cycles_per_voxel"]) == SIDE // 2
    a, b = (torch.from_numpy(read_volume(path)[0]) for path in volumes)
    curve = fsc(a, b)
    np.testing.assert_allclose(unmasked["correlation"], curve.correlation)
    assert unmasked["resolution_0.5_angstrom"] == pytest.approx(curve.resolution(0.5, 2.5))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "corrected" in capsys.readouterr().out


@pytest.mark.parametrize("mask", ["sphere", "loose", "tight", "soft"])
def test_masks_go_by_name(volumes: tuple[Path, Path], tmp_path: Path, mask: str) -> None:
    assert run(*volumes, "--mask", mask, "--json", tmp_path / "fsc.json") == 0
    curves = json.loads((tmp_path / "fsc.json").read_text())["curves"]
    assert curves["masked"]["mean"] > curves["unmasked"]["mean"]


def test_a_mask_may_be_a_file(volumes: tuple[Path, Path], tmp_path: Path) -> None:
    write_volume(tmp_path / "mask.mrc", np.ones((SIDE, SIDE, SIDE), np.float32), 2.5)
    assert run(*volumes, "--mask", tmp_path / "mask.mrc", "--json", tmp_path / "fsc.json") == 0
    curves = json.loads((tmp_path / "fsc.json").read_text())["curves"]
    assert curves["masked"]["correlation"] == curves["unmasked"]["correlation"]


def test_bad_volumes_are_refused_by_name(
    volumes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = volumes[0]
    bad = {
        "flat": (np.ones((SIDE, SIDE, 16), np.float32), "must be a cube"),
        "small": (np.ones((16, 16, 16), np.float32), f"side {SIDE}, but"),
        "nan": (np.full((SIDE, SIDE, SIDE), np.nan, np.float32), "not finite"),
    }
    for name, (array, message) in bad.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mrcfile's, about the voxels that are not numbers
            write_volume(tmp_path / f"{name}.mrc", array, 2.5)
        assert run(a, tmp_path / f"{name}.mrc", "--json", tmp_path / "fsc.json") == 2
        error = capsys.readouterr().err
        assert message in error
        assert f"{name}.mrc" in error
    write_volume(tmp_path / "coarse.mrc", np.ones((SIDE, SIDE, SIDE), np.float32), 4.0)
    assert run(a, tmp_path / "coarse.mrc", "--json", tmp_path / "fsc.json") == 2
    assert "say --pixel-size" in capsys.readouterr().err
    assert run(a, tmp_path / "missing.mrc") == 2
    assert "missing.mrc" in capsys.readouterr().err
    assert not (tmp_path / "fsc.json").exists()


def test_a_correction_needs_a_mask(
    volumes: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*volumes, "--phase-randomised") == 2
    assert "add --mask" in capsys.readouterr().err
