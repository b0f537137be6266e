import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from cryoem.cli.main import main
from cryoem.io.volume import write_stack, write_volume

SIDE = 16


def inspect(path: Path, *words, tmp_path: Path) -> dict:
    """Run the verb and return what it wrote as JSON."""
    out = tmp_path / "facts.json"
    assert main(["inspect", str(path), "--json", str(out), *map(str, words)]) == 0
    return json.loads(out.read_text())


def write_particles(folder: Path, images: np.ndarray, angles: str = "10 20 30") -> Path:
    write_stack(folder / "images.mrcs", images, 2.0)
    lines = ["data_optics", "", "loop_", "_rlnOpticsGroup", "_rlnImagePixelSize", "_rlnImageSize"]
    lines += ["_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast"]
    lines += [f"1 2.0 {SIDE} 300 2.7 0.1", "", "data_particles", "", "loop_", "_rlnImageName"]
    lines += ["_rlnOpticsGroup", "_rlnDefocusU", "_rlnDefocusV", "_rlnDefocusAngle"]
    lines += ["_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi"]
    for i in range(len(images)):
        lines.append(f"{i + 1:06d}@images.mrcs 1 {15000 + i} 15000 0 {angles} ")
    path = folder / "particles.star"
    path.write_text("\n".join([*lines, ""]))
    return path


def noise(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, SIDE, SIDE)).astype(np.float32)


def test_a_particle_file_says_what_is_in_it_and_whence(tmp_path, capsys):
    found = inspect(write_particles(tmp_path, noise()), tmp_path=tmp_path)
    assert found["kind"] == "particles"
    assert (found["n_particles"], found["box_size"]) == (6, SIDE)
    assert found["ctf"]["defocus_u_angstrom"] == [15000, 15005]
    assert "_rlnAngleRot" in found["origin"]["rotation"]
    printed = capsys.readouterr().out
    assert "15000 to 15005" in printed
    assert "problem:" in printed  # all six have the same rotation


def test_images_that_would_spoil_a_run_are_listed_by_row(tmp_path):
    images = noise()
    images[2, 3, 3] = np.nan
    images[4] = 1.0
    problems = inspect(write_particles(tmp_path, images), "--all", tmp_path=tmp_path)["problems"]
    assert any(problem.startswith("image in row 2 has pixels that are not") for problem in problems)
    assert any(problem.startswith("image in row 4 has the same value") for problem in problems)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_stack_that_is_not_whole_is_a_problem_but_the_table_is_still_shown(tmp_path, damage):
    path = write_particles(tmp_path, noise())
    stack = tmp_path / "images.mrcs"
    content = stack.read_bytes()
    stack.unlink()
    if damage == "truncated":
        stack.write_bytes(content[:-100])
    found = inspect(path, tmp_path=tmp_path)
    assert found["n_particles"] == 6
    expected = "is not there" if damage == "missing" else "truncated"
    assert any(expected in problem for problem in found["problems"])


def test_a_map_is_told_from_a_stack_by_its_shape(tmp_path):
    volume = np.zeros((SIDE, SIDE, SIDE), dtype=np.float32)
    volume[5:8, 5:8, 5:8] = 1
    write_volume(tmp_path / "map.mrc", volume, 1.7)
    found = inspect(tmp_path / "map.mrc", tmp_path=tmp_path)
    assert found["kind"] == "volume"
    assert found["voxel_size_angstrom"] == pytest.approx(1.7)
    assert found["problems"] == []
    write_stack(tmp_path / "stack.mrc", noise(), 1.7)
    assert inspect(tmp_path / "stack.mrc", tmp_path=tmp_path)["kind"] == "particles"


def test_a_run_folder_says_what_it_has_and_what_its_log_complained_of(tmp_path, capsys):
    found = inspect(write_run(tmp_path / "swing"), tmp_path=tmp_path)
    assert found["kind"] == "run"
    assert found["latents"] == [50, 3]
    assert len(found["volumes"]) == 3
    assert found["problems"] == ["run.log: WARNING a: <odd>"]
    assert "FSC = 0.143, half-set volumes, no mask" in " ".join(capsys.readouterr().out.split())


def test_a_run_without_a_checkpoint_has_a_problem(tmp_path):
    run = write_run(tmp_path / "swing")
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "report.html").unlink()
    problems = " ".join(inspect(run, tmp_path=tmp_path)["problems"])
    assert "no checkpoint" in problems
    assert "missing: report.html" in problems


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.star", b"not a table", "x.star: not a STAR file"),
        ("x.mrc", b"short", "x.mrc: not an MRC file"),
        ("x.pdf", b"", "x.pdf: not a particle file"),
        ("nowhere.star", None, "no such file or folder"),
        ("folder", None, "not a run folder"),
    ],
)
def test_what_cannot_be_read_is_one_message_and_status_two(
    tmp_path, capsys, name, content, message
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "folder":
        (tmp_path / name).mkdir()
    out = tmp_path / "facts.json"
    assert main(["inspect", str(tmp_path / name), "--json", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) <= 2
    assert not out.exists()


def test_a_real_relion_5_file_is_described_without_its_stacks(shared_data, tmp_path):
    path = shared_data / "real" / "cryodrgn" / "relion5.star"
    found = inspect(path, tmp_path=tmp_path)
    assert found["n_particles"] == 17
    assert found["pixel_size_angstrom"] == [0.89, 0.89]
    assert found["ctf"]["voltage_kilovolts"] == [100, 100]
    assert any("toy_images_a.mrcs" in problem for problem in found["problems"])


def test_a_real_cryosparc_file_counts_every_particle(shared_data, tmp_path):
    path = shared_data / "real" / "cryodrgn" / "cryosparc_P12_J24_001_particles.cs"
    found = inspect(path, tmp_path=tmp_path)
    assert found["n_particles"] == 2019
    assert found["box_size"] == 180
