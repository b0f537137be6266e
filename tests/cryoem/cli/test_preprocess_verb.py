"""Shards: the same training without the original stack, and no damage that goes unnoticed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_particles import PIXEL_SIZE, PhantomParticles, write_phantom_particles

from cryoem.cli.main import main
from cryoem.errors import InputError
from cryoem.io.shards import INDEX, read_index
from cryoem.io.source import open_particles
from cryoem.io.volume import write_stack
from datamodules import ParticleDataModule

N, SIDE, CROP = 50, 16, 12


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=N, box_size=SIDE)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoem.io.shard_writer.SHARD_BYTES", 16 * CROP * CROP * 2)


def _preprocess(particles: PhantomParticles, folder: Path, *options: str) -> int:
    words = ["preprocess", str(particles.star), "-o", str(folder), "--box-size", str(CROP)]
    return main([*words, "--workers", "2", *options])


@pytest.fixture
def shards(particles: PhantomParticles, tmp_path: Path) -> Path:
    assert _preprocess(particles, tmp_path / "shards") == 0
    return tmp_path / "shards"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_training_on_shards_is_training_on_the_crop(
    tmp_path: Path, dtype: str, tolerance: float
) -> None:
    particles = write_phantom_particles(tmp_path, n=N, box_size=SIDE)
    original = ParticleDataModule(particles.star, box_size=CROP, batch_size=16)
    original.setup()
    expected = [original.on_after_batch_transfer(raw, 0) for raw in original.train_dataloader()]
    assert _preprocess(particles, tmp_path / "shards", "--dtype", dtype) == 0
    (tmp_path / "particles.mrcs").unlink()
    particles.star.unlink()
    data = ParticleDataModule(tmp_path / "shards", batch_size=16)
    data.setup()
    assert data.geometry.pixel_size_angstrom == pytest.approx(PIXEL_SIZE * SIDE / CROP)
    assert data.data_scale == pytest.approx(original.data_scale, rel=tolerance)
    torch.testing.assert_close(data.pose.rotation, original.pose.rotation, atol=1e-6, rtol=0)
    torch.testing.assert_close(data.pose.shift, original.pose.shift, atol=1e-5, rtol=0)
    for raw, one in zip(data.train_dataloader(), expected, strict=True):
        other = data.on_after_batch_transfer(raw, 0)
        assert torch.equal(other.index, one.index)
        torch.testing.assert_close(other.fourier, one.fourier, atol=5 * tolerance, rtol=tolerance)
        for name in ("defocus_u_angstrom", "defocus_angle_degrees", "voltage_kilovolts"):
            torch.testing.assert_close(getattr(other.ctf, name), getattr(one.ctf, name))


def test_shards_are_stacks_that_others_read(particles: PhantomParticles, shards: Path) -> None:
    index = read_index(shards)
    assert [shard.n_images for shard in index.shards] == [16, 16, 16, 2]
    with mrcfile.open(shards / index.shards[0].file) as stack:
        assert stack.data.shape == (16, CROP, CROP)
        assert stack.data.dtype == np.float16
        assert stack.voxel_size.x == pytest.approx(PIXEL_SIZE * SIDE / CROP)
    text = index.particles.read_text()
    assert "000001@images_00002.mrcs" in text
    assert "000017@particles.mrcs 16" in text  # where row 16 comes from
    content = json.loads((shards / INDEX).read_text())
    assert content["schema_version"] == 1
    assert sorted(path.name for path in shards.iterdir()) == [
        "checksums.bin", *(shard.file for shard in index.shards), "index.json", "particles.star",
    ]  # fmt: skip


def test_selected_rows_keep_the_numbers_of_their_source(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", np.array([40, 3, 17]))
    assert _preprocess(particles, tmp_path / "s", "--select", str(tmp_path / "rows.npy")) == 0
    rows = (tmp_path / "s" / "particles.star").read_text().split("_cryoemSourceRow")[1]
    chosen = open_particles(particles.star, select=tmp_path / "rows.npy").table
    assert [line.split()[-1] for line in rows.splitlines()[1:] if line] == [
        str(row) for row in chosen.row
    ]


def _flip_a_bit(shards: Path) -> None:
    path = shards / "images_00002.mrcs"
    content = bytearray(path.read_bytes())
    content[1024 + 5 * CROP * CROP * 2 + 8] ^= 1
    path.write_bytes(content)


def _shorten(shards: Path) -> None:
    path = shards / "images_00002.mrcs"
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("damage", [_flip_a_bit, _shorten])
@pytest.mark.parametrize("placement", ["ram", "stream"])
def test_a_damaged_shard_is_named(shards: Path, damage, placement: str) -> None:
    data = ParticleDataModule(shards, batch_size=16, sign="light", placement=placement)
    damage(shards)
    with pytest.raises(InputError, match=r"images_00002\.mrcs: the shard is damaged"):
        data.setup()


def test_damage_during_a_training_is_named_too(shards: Path) -> None:
    data = ParticleDataModule(shards, batch_size=16, sign="light")
    data.setup()
    _flip_a_bit(shards)
    with pytest.raises(InputError, match=r"images_00002\.mrcs: the shard is damaged, image 6 "):
        list(data.train_dataloader())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("index.json", "index.json is missing.*cryoem preprocess"),
        ("images_00003.mrcs", r"images_00003\.mrcs: the shard is missing"),
        ("checksums.bin", r"checksums\.bin: cannot be read"),
        ("particles.star", r"particles\.star: cannot be read"),
    ],
)
def test_a_missing_file_is_named(shards: Path, name: str, message: str) -> None:
    (shards / name).unlink()
    with pytest.raises(InputError, match=message):
        open_particles(shards)


def test_another_version_of_the_layout_is_refused(shards: Path) -> None:
    text = (shards / INDEX).read_text()
    (shards / INDEX).write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(InputError, match=r"version 2, and only .* version 1"):
        open_particles(shards / INDEX)


@given(content=st.binary(max_size=200) | st.from_type(type(None)).map(lambda _: b"[1]"))
@settings(max_examples=50, deadline=None)
def test_any_index_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / INDEX).write_bytes(content)
    with pytest.raises(InputError):
        open_particles(folder)


@given(at=st.integers(0, 400), byte=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_of_index_or_checksums_is_harmless_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "whole"
    if not folder.exists():
        particles = write_phantom_particles(tmp_path_factory.mktemp("p"), n=4, box_size=SIDE)
        assert _preprocess(particles, folder) == 0
    for name in (INDEX, "checksums.bin"):
        copy = tmp_path_factory.mktemp("copy")
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        content = bytearray((copy / name).read_bytes())
        content[at % len(content)] = byte
        (copy / name).write_bytes(content)
        try:
            source = open_particles(copy)
            source.read(torch.arange(len(source.table)))
        except InputError:
            pass


def test_the_same_command_goes_on_behind_finished_shards(
    particles: PhantomParticles, shards: Path
) -> None:
    whole = {path.name: path.read_bytes() for path in shards.iterdir()}
    index = json.loads((shards / INDEX).read_text())
    (shards / "unfinished.json").write_text(json.dumps(index["made_from"]))
    for name in (INDEX, "checksums.bin", "particles.star", "images_00001.mrcs"):
        (shards / name).unlink()
    (shards / ".images_00001.mrcs.abc.mrcs").write_bytes(b"half of it")
    kept = (shards / "images_00002.mrcs").stat().st_mtime_ns
    assert _preprocess(particles, shards) == 0
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == whole
    assert (shards / "images_00002.mrcs").stat().st_mtime_ns == kept


def test_a_killed_run_leaves_only_whole_shards(particles: PhantomParticles, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    program = (
        "import sys, time, cryoem.io.shard_writer as w; from cryoem.cli.main import main;"
        f"w.SHARD_BYTES = {16 * CROP * CROP * 2}; write = w.write_stack;"
        "w.write_stack = lambda *a: (time.sleep(0.5), write(*a)); main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", program, "preprocess", str(particles.star), "-o", str(folder)]
    process = subprocess.Popen(
        [*words, "--box-size", str(CROP), "--workers", "1"], start_new_session=True
    )
    while not list(folder.glob("images_*.mrcs")):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / INDEX).exists()
    for path in folder.glob("images_*.mrcs"):
        assert path.stat().st_size == 1024 + 16 * CROP * CROP * 2
    assert _preprocess(particles, folder) == 0
    assert len(open_particles(folder).table) == N


def test_a_folder_with_other_shards_or_other_things_is_left_alone(
    particles: PhantomParticles, shards: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _preprocess(particles, shards, "--dtype", "float32") == 2
    assert "holds shards with dtype=float16, not float32" in capsys.readouterr().err
    assert _preprocess(particles, shards.parent) == 2
    assert "is not empty" in capsys.readouterr().err
    assert _preprocess(particles, shards) == 0  # finished already


def test_images_that_float16_cannot_hold_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    particles = write_phantom_particles(tmp_path, n=20, box_size=SIDE)
    for k, change in enumerate((lambda x: x + 1e3 * x.std(), lambda x: x * 1e6)):
        write_stack(tmp_path / "particles.mrcs", change(particles.images).numpy(), PIXEL_SIZE)
        assert _preprocess(particles, tmp_path / f"half{k}") == 2
        assert "--dtype float32" in capsys.readouterr().err
        assert _preprocess(particles, tmp_path / f"whole{k}", "--dtype", "float32") == 0
        capsys.readouterr()


def test_a_bad_image_names_its_row(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    particles = write_phantom_particles(tmp_path, n=20, box_size=SIDE)
    images = particles.images.clone()
    images[7, 2, 3] = np.nan
    write_stack(tmp_path / "particles.mrcs", images.numpy(), PIXEL_SIZE)
    assert _preprocess(particles, tmp_path / "shards") == 2
    assert "row 7 (from 0)" in capsys.readouterr().err
    assert not (tmp_path / "shards" / INDEX).exists()
