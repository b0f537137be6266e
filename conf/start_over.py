"""Starting over in the folder of an earlier run: its files go, and nobody else's do."""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from conf.resume import LAST, PREVIOUS
from cryoem.errors import InputError

PREFLIGHT = "preflight.html"
# What a training writes, but for its log, which is a history, the data that it simulates, and W&B's
# runs, each of which has a folder of its own that may not have been sent yet.
PRODUCTS = (
    f"checkpoints/{LAST}",
    f"checkpoints/{PREVIOUS}",
    "metrics.csv",
    "metrics.json",
    "data.json",
    "signals.json",
    "suspicious.csv",
    "divergence.csv",
    "latents.npz",
    "particles.star",
    "volumes/volume.mrc",
    "volumes/half[12].mrc",
    "volumes/volume_[0-9][0-9][0-9]*.mrc",
    "volumes/volumes.csv",
    "volumes/open.cxc",
    "report.html",
    "tensorboard/events.out.tfevents.*",
    "tensorboard/hparams.yaml",
)
WANDB = "wandb.json"  # which of W&B's runs it is


def refuse_to_lose_inputs(folder: Path, config: DictConfig) -> None:
    """See that no file that a run reads is one that it removes or writes again.

    Raises
    ------
    InputError
        If one is.
    """
    named = {f"data.{key}": value for key, value in config.data.items()}
    if config.ckpt_path is not None:
        given = Path(config.ckpt_path)
        named["ckpt_path"] = str(given / "checkpoints" / LAST if given.is_dir() else given)
    for key, value in named.items():
        if isinstance(value, str) and value and _is_product(Path(value).resolve(), folder):
            raise InputError(
                f"{key}={value}: a run in {folder} that begins afresh would replace it.\n"
                "Choose another name= or output_dir=, or keep a copy of the file elsewhere"
            )


def remove_products(folder: Path, again: bool) -> None:
    """Remove what an earlier run has left, and folders that are empty then.

    The page of a preflight stays, unless it is older than that run. The same run ``again`` goes on
    with its run of W&B.
    """
    if not again:
        (folder / WANDB).unlink(missing_ok=True)
    page, stored = folder / PREFLIGHT, folder / "config.yaml"
    if page.is_file() and stored.is_file() and page.stat().st_mtime < stored.stat().st_mtime:
        page.unlink()
    for product in list(_products(folder)):
        product.unlink()
    for name in ("checkpoints", "volumes", "figures", "tensorboard"):
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()


def _products(folder: Path) -> Iterator[Path]:
    from cryoem.report.captions import CAPTIONS  # matplotlib takes seconds

    for pattern in (*PRODUCTS, *(f"figures/{name}.png" for name in CAPTIONS)):
        yield from folder.glob(pattern)


def _is_product(path: Path, folder: Path) -> bool:
    return any(path == product.resolve() for product in _products(folder))
