"""Bad input at the command line: two lines on stderr, exit status 2, nothing left behind."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import train
from cryoem.simulate import simulate

ROOT = Path(__file__).resolve().parents[1]
N, SIDE = 24, 16


class Danger:
    """A pickle of this would call a function while it is read."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("owned"),)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good data set, small enough to train on in a second."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate(folder, n_particles=N, box_size=SIDE, pixel_size_angstrom=14.0, seed=1)
    return folder


@pytest.fixture
def particles(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A particle file of one's own, to be spoilt; its folder is below the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(simulated, "data")
    return tmp_path / "data" / "particles.star"


def refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """Run train.py in this process; returns what it says on stderr."""
    before = set(Path.cwd().rglob("*"))
    status = train.main([*overrides, "trainer.accelerator=cpu"])
    message = capsys.readouterr().err.strip()
    assert status == 2, message
    assert 1 <= len(message.splitlines()) <= 2, message
    assert "Traceback" not in message
    assert set(Path.cwd().rglob("*")) == before, "something was written"
    return message


def drop_column(particles: Path, label: str) -> None:
    """Remove a column of the particle table from the STAR file."""
    head, _, table = particles.read_text().partition("data_particles")
    lines = table.splitlines()
    labels = [line.split()[0] for line in lines if line.startswith("_rln")]
    column = labels.index(label)
    kept = []
    for line in lines:
        cells = line.split()
        if len(cells) == len(labels):
            kept.append(" ".join(cells[:column] + cells[column + 1 :]))
        elif not line.startswith(label):
            kept.append(line)
    particles.write_text(head + "data_particles" + "\n".join(kept) + "\n")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.laten_dim=4"],
        ["model.latent_dim=four"],
        ["model/encoder=nope"],
        ["data.particles=nowhere.star"],
        ["data=particles"],
        ["trainer.max_epochs=0"],
        ["resume=must"],
        ["data.simulation.motion=dance"],
        ["data.simulation.box_size=15"],
        [
            "model.decoder.encoding=nope",
            "model/decoder=fourier_mlp",
            "model/encoder=mlp",
            "data.simulation.n_particles=20",
        ],
        ["ckpt_path=nowhere"],
        ["poses.strategy=guess", "poses=search"],
        ["poses.radii=[9,5,30]", "poses=search"],
        ["poses.held_out=0.7", "poses=search"],
        ["poses.symmetry=Q3", "poses=search", "data.simulation.n_particles=20"],
        ["poses.restarts=0", "poses=search"],
        ["poses.restarts=-1", "poses=search"],
    ],
)
def test_a_wrong_command_is_refused(
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    key, _, value = overrides[0].partition("=")
    message = refused(capsys, *overrides)
    assert key in message or value in message


def test_a_volume_that_a_random_start_would_forget(
    particles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"data.particles={particles}", f"ckpt_path={particles}", "poses=search")
    assert "poses.restarts=0" in refused(capsys, *words)


def test_a_good_file_is_not_refused(particles: Path) -> None:
    assert train.main([f"data.particles={particles}", "--cfg", "job"]) == 0


def test_a_missing_stack(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    particles.with_suffix(".mrcs").unlink()
    assert "particles.mrcs" in refused(capsys, f"data.particles={particles}")


def test_images_that_are_not_square(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mrcfile.new(particles.with_suffix(".mrcs"), overwrite=True) as stack:
        stack.set_data(np.zeros((N, SIDE, SIDE + 2), np.float32))
    assert f"{SIDE + 2}" in refused(capsys, f"data.particles={particles}")


def test_a_missing_image_column(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_column(particles, "_rlnImageName")
    assert "rlnImageName" in refused(capsys, f"data.particles={particles}")


@pytest.mark.parametrize("size", [15, 18, 7])
def test_a_box_that_cannot_be(
    size: int, particles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, f"data.particles={particles}", f"data.box_size={size}")
    assert f"data.box_size={size}" in message


def test_a_stack_without_poses(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = particles.with_suffix(".mrcs")
    assert "data.poses" in refused(capsys, f"data.particles={stack}", "data.sign=light")


def test_poses_of_another_number(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = Path("poses.pkl")
    rotations, shifts = np.tile(np.eye(3), (N - 1, 1, 1)), np.zeros((N - 1, 2))
    poses.write_bytes(pickle.dumps((rotations, shifts)))
    message = refused(capsys, f"data.particles={particles}", f"data.poses={poses}")
    assert str(N) in message
    assert str(N - 1) in message


def test_a_pickle_that_would_run_code(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = Path("poses.pkl")
    poses.write_bytes(pickle.dumps((Danger(), Danger())))
    assert "poses.pkl" in refused(capsys, f"data.particles={particles}", f"data.poses={poses}")
    assert not Path("owned").exists()


def test_a_selection_outside_the_file(particles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", np.array([0, N]))
    assert str(N) in refused(capsys, f"data.particles={particles}", "data.select=rows.npy")


@pytest.mark.parametrize("script", ["train.py", "sweep.py"])
def test_the_programs_themselves_exit_with_2(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "model.laten_dim=3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert "did you mean model.latent_dim?" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_program_itself_refuses_a_bad_file(particles: Path) -> None:
    particles.with_suffix(".mrcs").unlink()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), f"data.particles={particles}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert not Path("runs").exists()
