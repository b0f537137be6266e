"""What every test may ask for: the shared data sets, and quiet, repeatable torch."""

import os
from pathlib import Path

import pytest
import torch


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
