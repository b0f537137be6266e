"""Files that lie, at the entry points: status 2, two lines, no traceback, nothing half-written."""

import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import train
from cryoem.cli.main import main as cryoem
from cryoem.io.stack_reader import StackReader
from cryoem.simulate import simulate

N, SIDE = 24, 16
IMAGE = 4 * SIDE * SIDE
Damage = Callable[[Path], Path]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good data set, small enough to train on in a second."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate(folder, n_particles=N, box_size=SIDE, pixel_size_angstrom=14.0, seed=1)
    return folder


@pytest.fixture
def star(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A particle file of one's own, to be spoilt, in a folder below the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(simulated, "data")
    return Path("data/particles.star")


def stack_of(star: Path) -> Path:
    return star.with_suffix(".mrcs")


def emptied(star: Path) -> Path:
    star.write_bytes(b"")
    return star


def a_folder(star: Path) -> Path:
    star.unlink()
    star.mkdir()
    return star


def empty_stack(star: Path) -> Path:
    stack_of(star).write_bytes(b"")
    return star


def cut_stack(star: Path) -> Path:
    with stack_of(star).open("r+b") as file:
        file.truncate(1024 + 3 * IMAGE + 5)
    return star


def patched(offset: int, number: int) -> Damage:
    """Return what changes four bytes of the stack's header."""

    def damage(star: Path) -> Path:
        with stack_of(star).open("r+b") as file:
            file.seek(offset)
            file.write(struct.pack("<i", number))
        return star

    return damage


def bare_and_patched(star: Path) -> Path:
    return stack_of(patched(8, N - 2)(star))


def pixels(row: int, value: float) -> Damage:
    """Return what sets one pixel."""

    def damage(star: Path) -> Path:
        with mrcfile.mmap(stack_of(star), mode="r+") as stack:
            stack.data[row, 3, 3] = value
        return star

    return damage


def one_value(star: Path) -> Path:
    with mrcfile.mmap(stack_of(star), mode="r+") as stack:
        stack.data[7] = 2.5
    return star


def a_volume(star: Path) -> Path:
    path = star.with_name("map.mrc")
    shutil.copy(next(star.parent.glob("truth/volume_*.mrc")), path)
    return path


def odd_box(star: Path) -> Path:
    with mrcfile.new(stack_of(star), np.zeros((N, 15, 15), "f4"), overwrite=True):
        return star


def text(old: str, new: str) -> Damage:
    """Return what replaces a word of the particle file."""

    def damage(star: Path) -> Path:
        content = star.read_text()
        assert old in content
        star.write_text(content.replace(old, new))
        return star

    return damage


def one_row_more(star: Path) -> Path:
    rows = star.read_text().rstrip("\n")
    last = rows.rpartition("\n")[2]
    star.write_text(f"{rows}\n{last.replace(f'{N:06d}@', f'{N + 1:06d}@')}\n")
    return star


def half_a_cs_file(star: Path) -> Path:
    path = star.with_suffix(".cs")
    table = np.zeros(N, [("uid", "<u8"), ("alignments3D/pose", "<f4", (3,))])
    with path.open("wb") as file:
        np.save(file, table)
    return path


DAMAGES: dict[str, tuple[Damage, str]] = {
    "an empty file": (emptied, "not a STAR file"),
    "a folder": (a_folder, "particles.star"),
    "an empty stack": (empty_stack, "particles.mrcs: not an MRC file, 0 bytes"),
    "a truncated stack": (cut_stack, "particles.mrcs: truncated"),
    "too many images in the header": (patched(8, 10**9), "particles.mrcs: truncated"),
    "too few images in the header": (patched(8, N - 2), f"wants image {N - 1} of"),
    "a bare stack with too few": (bare_and_patched, f"says {N - 2} images, but {2 * IMAGE} bytes"),
    "an unknown type of pixel": (patched(12, 4), "MRC mode 4 is not supported"),
    "an odd box": (odd_box, "box size must be even, got 15"),
    "more rows than images": (one_row_more, f"row {N} (from 0) wants image {N + 1} of"),
    "NaN": (pixels(5, np.nan), "row 5 (from 0): the image has pixels that are not finite"),
    "a huge pixel": (pixels(6, 1e30), "row 6 (from 0): the image has pixels of 1e+12 and more"),
    "an image of one value": (one_value, "row 7 (from 0): the image has the same value in every"),
    "a volume": (a_volume, "map.mrc: is a volume of 16 x 16 x 16 voxels"),
    "a column without its fellow": (text("_rlnAngleTilt", "_rlnAngleX"), "column _rlnAngleTilt"),
    "a word for a number": (text(" 300.000000 ", " 300kV "), "_rlnVoltage: '300kV'"),
    "images that are one": (text("@particles", "@absent"), "stack 'absent.mrcs' is not there"),
    "premultiplied": (text("_rlnOpticsGroupName", "_rlnCtfDataAreCtfPremultiplied"), "Premult"),
    "a .cs file without images": (half_a_cs_file, "data.passthrough="),
}


def check_refusal(status: int, message: str, part: str, before: set[Path]) -> None:
    assert status == 2, message
    assert part in message
    assert 1 <= len(message.strip().splitlines()) <= 2, message
    assert "Traceback" not in message
    assert set(Path.cwd().rglob("*")) == before, "something was written"


@pytest.mark.parametrize("name", DAMAGES)
def test_train_refuses_what_lies(name: str, star: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, part = DAMAGES[name]
    path = damage(star)
    before = set(Path.cwd().rglob("*"))
    words = [f"data.particles={path}", "data.sign=light", "trainer.accelerator=cpu"]
    check_refusal(train.main(words), capsys.readouterr().err, part, before)


@pytest.mark.parametrize("name", DAMAGES)
def test_backproject_refuses_what_lies(
    name: str, star: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, part = DAMAGES[name]
    path = damage(star)
    before = set(Path.cwd().rglob("*"))
    status = cryoem(["backproject", str(path), "-o", "out", "--device", "cpu"])
    printed = capsys.readouterr().err
    message = printed[printed.rindex("cryoem backproject:") :]  # behind the bar of progress
    check_refusal(status, message, part, before)


@pytest.mark.parametrize("name", DAMAGES)
def test_inspect_says_what_lies(name: str, star: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, part = DAMAGES[name]
    path = damage(star)
    before = set(Path.cwd().rglob("*"))
    status = cryoem(["inspect", str(path)])
    printed = capsys.readouterr()
    assert set(Path.cwd().rglob("*")) == before
    if status == 2:
        check_refusal(status, printed.err, part.partition(":")[0], before)
    else:
        assert "problem" in printed.out or name in ("a volume", "a folder")


# Input that changes, and a disk that fills up, while a model trains

TRAIN = ("model=homo", "data.sign=light", "data.batch_size=8", "trainer.accelerator=cpu")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stack_that_shrinks_while_a_model_trains_ends_the_run_in_one_line(
    workers: int, star: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_into, calls = StackReader.read_into, []

    def shrinking(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            cut_stack(star)
        read_into(*arguments)

    monkeypatch.setattr(StackReader, "read_into", shrinking)
    status = train.main(
        [f"data.particles={star}", *TRAIN, "trainer.max_epochs=9", "data.placement=stream",
         f"data.num_workers={workers}", "output_dir=run"]
    )  # fmt: skip
    message = capsys.readouterr().err.strip()
    assert status == 2, message
    assert "particles.mrcs: has become shorter" in message.splitlines()[-1]
    assert "Traceback" not in message


def test_a_disk_that_fills_up_while_a_model_trains_is_one_line(
    star: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))  # less than a checkpoint
    try:
        status = train.main(
            [
                "preflight=false",
                f"data.particles={star}",
                *TRAIN,
                "trainer.max_epochs=2",
                "output_dir=run",
            ]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = capsys.readouterr().err.strip()
    assert status == 2, message
    assert "last.ckpt: cannot be written (File too large); free some space" in message
    assert "Traceback" not in message
    assert not list(Path("run/checkpoints").iterdir())


def test_a_remark_on_the_input_is_in_the_log_of_the_run(star: Path) -> None:
    lines = star.read_text().rstrip("\n").splitlines()
    star.write_text("\n".join(lines[:-4]) + "\n")
    words = [f"data.particles={star}", *TRAIN, "trainer.max_epochs=1", "output_dir=run"]
    assert train.main(words) == 0
    log = Path("run/run.log").read_text()
    assert f"4 of {N} images in the stacks are in no row" in log
