"""A configuration as a run has stored it, for a folder that may have another name by now."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def load_stored(file: Path, output_dir: str) -> dict[str, Any]:
    """Read a ``config.yaml``, with every path below its own folder moved to ``output_dir``."""
    stored = OmegaConf.load(file)
    assert isinstance(stored, DictConfig)
    return moved(OmegaConf.to_container(stored), str(stored.get("output_dir")), output_dir)


def moved(tree: Any, old: str, new: str) -> Any:
    """Replace ``old`` where a text is that folder or a path below it."""
    if isinstance(tree, dict):
        return {key: moved(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [moved(value, old, new) for value in tree]
    if isinstance(tree, str) and (tree == old or tree.startswith(f"{old}/")):
        return new + tree[len(old) :]
    return tree
