"""The import direction, read from the imports: arrows point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "cryoem": {
        "pytorch_lightning",
        "lightning",
        "hydra",
        "omegaconf",
        "wandb",
        "datamodules",
        "lightning_modules",
        "conf",
    },
    "datamodules": {"lightning", "hydra", "omegaconf", "wandb", "lightning_modules", "conf"},
    "lightning_modules": {"lightning", "hydra", "omegaconf", "wandb", "datamodules", "conf"},
    "conf": {"torch", "lightning", "pytorch_lightning", "datamodules", "lightning_modules"},
}


def imported(file: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_from_above_itself(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    offenders = {
        str(file.relative_to(ROOT)): sorted(bad)
        for file in files
        if (bad := imported(file) & FORBIDDEN[package])
    }
    assert not offenders


@pytest.mark.parametrize("script", ["train.py", "sweep.py"])
def test_an_entry_point_loads_no_torch_before_the_command_line_is_right(script: str) -> None:
    tree = ast.parse((ROOT / script).read_text())
    top = {
        (node.module or "").partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
    } | {a.name.partition(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    assert not top & {"torch", "pytorch_lightning", "datamodules", "lightning_modules"}
