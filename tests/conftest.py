"""What every test may ask for: the shared data sets, and quiet, repeatable torch."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# the same examples in every run, and no folder of earlier failures
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data sets; tests that need it are skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CRYOEM_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set CRYOEM_SHARED to their folder")
    return folder


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
