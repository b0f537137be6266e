from pathlib import Path

import pandas as pd
import pytest

from cryoem.cli.main import main
from cryoem.io.volume import read_volume


def run(*arguments: object) -> int:
    return main(["backproject", *map(str, arguments)])


def test_a_star_file_becomes_maps_and_curves(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "sim" / "homog64"
    truth = folder / "truth.mrc"
    out = tmp_path / "out"
    assert run(folder / "first100.star", "-o", out, "--truth", truth, "--mask", "soft") == 0
    assert {path.name for path in out.iterdir()} == {
        "volume.mrc", "half1.mrc", "half2.mrc", "fsc.csv", "fsc.png",
    }  # fmt: skip
    for name in ("volume", "half1", "half2"):
        volume, voxel_size = read_volume(out / f"{name}.mrc")
        assert volume.shape == (64, 64, 64)
        assert voxel_size == pytest.approx(5.0)
    curves = pd.read_csv(out / "fsc.csv")
    assert len(curves) == 31
    assert curves["truth"].mean() > 0.55
    assert curves["truth, masked"].mean() > curves["truth"].mean()
    printed = capsys.readouterr()
    assert "sign: dark" in printed.out
    assert "images/s" in printed.err


def test_images_may_be_cropped_and_chosen(shared_data: Path, tmp_path: Path) -> None:
    star = shared_data / "sim" / "homog64" / "first100.star"
    assert run(star, "-o", tmp_path, "--box-size", 32, "--first", 40, "--sign", "dark") == 0
    volume, voxel_size = read_volume(tmp_path / "volume.mrc")
    assert volume.shape == (32, 32, 32)
    assert voxel_size == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box-size", 63], "--box-size 63: must be even"),
        (["--box-size", 128], "from 8 to 64"),
        (["--device", "toaster"], "--device toaster: cannot be used"),
        (["--mask", "soft"], "name a truth"),
        (["--poses", "missing.pkl"], "missing.pkl"),
    ],
)
def test_bad_requests_leave_nothing_behind(
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    message: str,
) -> None:
    star = shared_data / "sim" / "homog64" / "first100.star"
    out = tmp_path / "out"
    assert run(star, "-o", out, "--sign", "dark", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert not out.exists()


def test_a_stack_without_poses_is_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    star = shared_data / "real" / "cryodrgn" / "empiar_10076_7.star"
    assert run(star, "-o", tmp_path / "out") == 2
    assert "has no poses; give them with --poses FILE" in capsys.readouterr().err
