"""The simulated stacks of the reference data, unpacked once."""

import gzip
import shutil
from pathlib import Path

import pytest


def unpack(packed: Path, folder: Path) -> Path:
    for file in packed.iterdir():
        if file.suffix == ".gz":
            with gzip.open(file) as source, (folder / file.stem).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        elif file.is_dir():
            shutil.copytree(file, folder / file.name)
        else:
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def homog64(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5000 images of one ribosome map: ``particles.star`` and ``truth.mrc``."""
    return unpack(shared_data / "sim" / "homog64", tmp_path_factory.mktemp("homog64"))


@pytest.fixture(scope="session")
def hetero64(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5000 images of ten conformations: ``particles.star``, ``labels.csv`` and ``truth/``."""
    return unpack(shared_data / "sim" / "hetero64", tmp_path_factory.mktemp("hetero64"))
