import pickle

import numpy as np
import pytest
import torch
from mrc_stacks import write_mrcs
from particle_files import (
    LABELS,
    TWO_GROUPS,
    cs_blobs,
    cs_poses,
    star_rows,
    write_cs,
    write_star_31,
)

from cryoem.batch import Pose
from cryoem.io.export import write_particles_star
from cryoem.io.source import open_particles
from cryoem.io.star import read_star
from cryoem.io.table import read_table
from cryoem.rotations import random_rotations


def new_pose(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(n, generator).float()
    return Pose(rotation, torch.randn(n, 2, generator=generator))


def assert_same_particles(a, b, atol=0.0):
    assert len(a) == len(b)
    for name in vars(a.ctf):
        torch.testing.assert_close(getattr(a.ctf, name), getattr(b.ctf, name), rtol=0, atol=0)
    torch.testing.assert_close(a.pose.rotation, b.pose.rotation, rtol=0, atol=atol)
    torch.testing.assert_close(a.pose.shift, b.pose.shift, rtol=0, atol=atol)
    np.testing.assert_allclose(a.pixel_size_angstrom, b.pixel_size_angstrom, rtol=1e-7)
    np.testing.assert_array_equal(a.half, b.half)
    np.testing.assert_array_equal(a.micrograph, b.micrograph)
    np.testing.assert_array_equal(a.frame, b.frame)


REAL = [
    "real/cryodrgn/FinalRefinement-OriginalParticles-PfCRT.star",
    "real/cryodrgn/relion31.star",
    "real/cryodrgn/relion31.v2.star",
    "real/cryodrgn/relion31.6opticsgroups.star",
    "real/cryodrgn/relion5.star",
    "real/cryodrgn/sta_testing_bin8.star",
    "real/aspire/sample_particles_relion30.star",
    "real/aspire/sample_particles_relion31.star",
    "sim/homog64/first100.star",
]


@pytest.mark.parametrize("name", REAL)
def test_star_to_star_keeps_everything(shared_data, tmp_path, name):
    table = read_table(shared_data / name)
    write_particles_star(table, tmp_path / "out.star", None)
    assert_same_particles(read_table(tmp_path / "out.star"), table)
    before, after = read_star(shared_data / name), read_star(tmp_path / "out.star")
    for old, new in zip(before, after, strict=True):
        assert (old.name, old.labels) == (new.name, new.labels)
        everything = range(old.n_rows)
        assert list(old.raw_rows(everything)) == list(new.raw_rows(everything))


@pytest.mark.parametrize("name", REAL)
def test_the_poses_of_a_run_come_back(shared_data, tmp_path, name):
    table = read_table(shared_data / name)
    pose = new_pose(len(table))
    write_particles_star(table, tmp_path / "out.star", pose)
    again = read_table(tmp_path / "out.star")
    torch.testing.assert_close(again.pose.rotation, pose.rotation, rtol=0, atol=3e-7)
    torch.testing.assert_close(again.pose.shift, pose.shift, rtol=0, atol=2e-6)
    torch.testing.assert_close(again.ctf.defocus_u_angstrom, table.ctf.defocus_u_angstrom)


def test_selected_rows_are_written_with_latents_and_quoted_words(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    rows = [f"{row} 'two words' # checked" for row in star_rows(groups=2)]
    labels = f"{LABELS}_rlnComment\n"
    table = read_table(write_star_31(tmp_path / "p.star", rows, TWO_GROUPS, labels)).select([5, 2])
    latents = np.array([[0.25, -1e-9], [1 / 3, 2e7]], dtype=np.float32)
    write_particles_star(table, tmp_path / "out.star", new_pose(2), latents)
    particles = read_star(tmp_path / "out.star")[1]
    assert list(particles.text("_rlnImageName")) == ["000006@a.mrcs", "000003@a.mrcs"]
    assert list(particles.text("_rlnComment")) == ["two words"] * 2
    written = [particles.numbers(f"_cryoemLatent{k}") for k in (1, 2)]
    np.testing.assert_array_equal(np.stack(written, axis=1).astype(np.float32), latents)
    shift = open_particles(tmp_path / "out.star").table.pose.shift
    torch.testing.assert_close(shift, new_pose(2).shift, rtol=0, atol=1e-6)


def test_a_given_pixel_size_leaves_relions_shifts_in_relions_angstrom(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    path = write_star_31(tmp_path / "p.star")
    table = read_table(path, pixel_size_angstrom=3.0)
    write_particles_star(table, tmp_path / "out.star", table.pose)
    torch.testing.assert_close(
        read_table(tmp_path / "out.star").pose.shift, read_table(path).pose.shift
    )


def test_a_cs_file_becomes_a_star_file(tmp_path):
    images = write_mrcs(tmp_path / "with blank" / "a.mrcs")
    particles = write_cs(tmp_path / "with blank" / "p.cs", cs_blobs())
    passthrough = write_cs(tmp_path / "pass.cs", cs_poses())
    table = open_particles(particles, passthrough=passthrough).table
    write_particles_star(table, tmp_path / "elsewhere" / "out.star", None)
    again = open_particles(tmp_path / "elsewhere" / "out.star")
    torch.testing.assert_close(again.table.pose.rotation, table.pose.rotation, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.table.pose.shift, table.pose.shift, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(again.table.half, table.half)
    np.testing.assert_array_equal(again.read(torch.arange(6)), images)
    assert again.table.ctf is None


def test_p12_survives_the_way_to_relion_with_its_ctf(shared_data, tmp_path):
    table = read_table(shared_data / "real" / "cryodrgn" / "cryosparc_P12_J24_001_particles.cs")
    write_particles_star(table, tmp_path / "out.star", None)
    again = read_table(tmp_path / "out.star")
    for name in vars(table.ctf):
        torch.testing.assert_close(
            getattr(again.ctf, name), getattr(table.ctf, name), rtol=0, atol=0
        )
    torch.testing.assert_close(again.pose.rotation, table.pose.rotation, rtol=0, atol=1e-6)
    torch.testing.assert_close(again.pose.shift, table.pose.shift, rtol=0, atol=1e-6)
    assert again.box_size == 180


def test_overrides_are_written_in_place_of_the_stars_own(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    path = write_star_31(tmp_path / "p.star", star_rows(groups=2), TWO_GROUPS)
    pose = new_pose(6)
    content = (pose.rotation.numpy(), pose.shift.numpy() / 8)
    (tmp_path / "pose.pkl").write_bytes(pickle.dumps(content))
    ctf = np.tile(np.array([8, 2.25, 1e4, 9e3, 45, 200, 1.4, 0.2, 10], dtype="f4"), (6, 1))
    ctf[3:, 5] = 120
    (tmp_path / "ctf.pkl").write_bytes(pickle.dumps(ctf))
    for name, options in {
        "poses": {"poses": tmp_path / "pose.pkl"},
        "both": {"poses": tmp_path / "pose.pkl", "ctf": tmp_path / "ctf.pkl"},
    }.items():
        table = read_table(path, **options)
        write_particles_star(table, tmp_path / f"{name}.star", None)
        assert_same_particles(read_table(tmp_path / f"{name}.star"), table, atol=1e-6)


def test_bare_stacks_become_a_star_file_that_relion_can_read(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    table = read_table(tmp_path / "a.mrcs")
    write_particles_star(table, tmp_path / "out.star", new_pose(6))
    optics, particles = read_star(tmp_path / "out.star")
    assert (optics.name, particles.name) == ("optics", "particles")
    assert optics.numbers("_rlnImagePixelSize") == [2.0]
    assert optics.numbers("_rlnImageSize") == [8]
    assert particles.text("_rlnImageName")[0] == f"000001@{tmp_path / 'a.mrcs'}"
    torch.testing.assert_close(
        open_particles(tmp_path / "out.star").table.pose.shift, new_pose(6).shift
    )


def test_poses_that_do_not_fit_leave_no_file(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    table = read_table(tmp_path / "a.mrcs")
    with pytest.raises(ValueError, match="5 poses for 6 rows"):
        write_particles_star(table, tmp_path / "out.star", new_pose(5))
    assert not (tmp_path / "out.star").exists()
