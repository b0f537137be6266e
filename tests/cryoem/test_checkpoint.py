"""Checkpoints are data: read safely, and only classes of this package are built."""

from functools import partial
from pathlib import Path

import pytest
import torch

from cryoem.checkpoint import KEY, build, describe, plain, read_checkpoint
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.errors import InputError


class Danger:
    """A pickle of this would call a function while it is read."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("owned"),)


def test_a_described_factory_is_built_again() -> None:
    factory = partial(partial(FourierMLP, width=8, depth=1), depth=2)
    description = describe(factory)
    assert description == {
        "_target_": "cryoem.decoders.fourier_mlp.FourierMLP", "width": 8, "depth": 2,
    }  # fmt: skip
    one, other = factory(box_size=16, latent_dim=2), build(description, box_size=16, latent_dim=2)
    other.load_state_dict(one.state_dict())


def test_only_plain_values_go_into_a_checkpoint() -> None:
    assert plain({"a": (1, Path("b"), None)}) == {"a": [1, "b", None]}
    with pytest.raises(ValueError, match="numbers, text"):
        plain({"a": torch.zeros(1)})


@pytest.mark.parametrize("target", ["os.system", "cryoem_evil.Decoder", "subprocess.run"])
def test_classes_of_others_are_never_built(target: str) -> None:
    with pytest.raises(InputError, match="only cryoem"):
        build({"_target_": target})


def test_a_class_that_is_gone_is_named() -> None:
    with pytest.raises(InputError, match=r"cryoem\.decoders\.gone\.Decoder, which this version"):
        build({"_target_": "cryoem.decoders.gone.Decoder"})


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({KEY: Danger()}, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match=r"bad\.ckpt: not a checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not Path("owned").exists()


def test_what_is_no_checkpoint_of_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt: no such checkpoint"):
        read_checkpoint(tmp_path)
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(InputError, match="read safely"):
        read_checkpoint(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="not a checkpoint of a cryoem run"):
        read_checkpoint(tmp_path / "other.ckpt")
