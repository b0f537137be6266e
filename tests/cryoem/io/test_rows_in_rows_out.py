"""As many particles as the file has rows, the same ones, whichever program wrote the file."""

import re

import numpy as np
import pytest
import torch
from mrc_stacks import write_mrcs
from particle_files import write_cs
from scipy.spatial.transform import Rotation

from cryoem.io.export import write_particles_star
from cryoem.io.source import open_particles
from cryoem.io.table import read_table


def image_names(path):
    """(stack, number from 1) of every line that has them where the label says."""
    block = next(b for b in re.split(r"(?m)^data_", path.read_text()) if "_rlnImageName" in b)
    lines = [line.split() for line in block.splitlines()]
    labels = [words[0] for words in lines if words and words[0].startswith("_")]
    rows = [words[labels.index("_rlnImageName")] for words in lines if len(words) == len(labels)]
    found = [re.fullmatch(r"(\d+)@(\S+)", word) for word in rows]
    return [(match[2], int(match[1])) for match in found if match]


def named(table):
    """(bare name of the stack, number from 1) of every particle."""
    stacks = [stack.name for stack in table.stacks]
    places = zip(table.stack.tolist(), table.frame.tolist(), strict=True)
    return [(stacks[stack], frame + 1) for stack, frame in places]


def test_every_row_of_every_real_star_file_is_a_particle(shared_data):
    files = sorted((shared_data / "real").rglob("*.star"))
    assert len(files) >= 15
    for path in files:
        listed = image_names(path)
        table = read_table(path)
        assert len(table) == table.n_rows == len(listed) > 0, path
        assert named(table) == [(stack.rpartition("/")[2], k) for stack, k in listed], path


def test_every_row_of_every_real_cs_file_is_a_particle(shared_data):
    files = sorted((shared_data / "real").rglob("*.cs"))
    assert len(files) >= 3
    for path in files:
        listed = np.load(path)
        table = read_table(path)
        assert len(table) == table.n_rows == len(listed) > 0, path
        names = [name.decode().rpartition("/")[2] for name in listed["blob/path"]]
        assert named(table) == list(zip(names, (listed["blob/idx"] + 1).tolist(), strict=True)), (
            path
        )


def test_every_real_file_comes_back_from_its_export_row_by_row(shared_data, tmp_path):
    for path in sorted((shared_data / "real").rglob("*.star")):
        table = read_table(path)
        write_particles_star(table, tmp_path / "out.star", table.pose)
        assert named(read_table(tmp_path / "out.star")) == named(table), path


# The same particles as a .star and as a .cs file, each written here from the same numbers.

N, BOX, PIXEL = 50, 8, 1.5


@pytest.fixture
def pair(tmp_path):
    """Particles as RELION and as cryoSPARC would write them."""
    rng = np.random.default_rng(3)
    write_mrcs(tmp_path / "a.mrcs", n=N, side=BOX)
    defocus = rng.uniform(5e3, 3e4, (N, 2)).astype(np.float32)
    angle = rng.uniform(-np.pi, np.pi, N).astype(np.float32)
    phase = rng.uniform(0, np.pi, N).astype(np.float32)
    shift = rng.uniform(-2, 2, (N, 2)).astype(np.float32)
    vector = (Rotation.random(N, random_state=4).as_rotvec()).astype(np.float32)
    rot, tilt, psi = Rotation.from_rotvec(vector.astype(float)).as_euler("ZYZ", degrees=True).T
    scalars = {
        "uid": ("<u8", rng.permutation(N)), "blob/idx": ("<u4", np.arange(N)),
        "blob/psize_A": ("<f4", PIXEL), "alignments3D/psize_A": ("<f4", PIXEL),
        "alignments3D/split": ("<u4", np.arange(N) % 2), "ctf/accel_kv": ("<f4", 300),
        "ctf/cs_mm": ("<f4", 2.7), "ctf/amp_contrast": ("<f4", 0.07),
        "ctf/df1_A": ("<f4", defocus[:, 0]), "ctf/df2_A": ("<f4", defocus[:, 1]),
        "ctf/df_angle_rad": ("<f4", angle), "ctf/phase_shift_rad": ("<f4", phase),
    }  # fmt: skip
    others = {
        "blob/path": ("S20", b">a.mrcs"), "blob/shape": (("<u4", (2,)), BOX),
        "alignments3D/pose": (("<f4", (3,)), vector), "alignments3D/shift": (("<f4", (2,)), shift),
    }  # fmt: skip
    columns = scalars | others
    types = [(k, v[0]) if isinstance(v[0], str) else (k, *v[0]) for k, v in columns.items()]
    table = np.zeros(N, dtype=types)
    for name, (_, values) in columns.items():
        table[name] = values
    labels = ["ImageName", "OpticsGroup", "DefocusU", "DefocusV", "DefocusAngle", "PhaseShift",
              "AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst",
              "RandomSubset"]  # fmt: skip
    numbers = np.stack(
        [*defocus.T, np.degrees(angle), np.degrees(phase), rot, tilt, psi, *(shift * PIXEL).T],
        axis=1,
    )
    rows = [
        f"{k + 1:06d}@a.mrcs 1 {' '.join(f'{x:.8f}' for x in row)} {k % 2 + 1}"
        for k, row in enumerate(numbers)
    ]
    optics = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n"
        f"_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.07 {PIXEL} {BOX}\n"
    )
    head = "\ndata_particles\nloop_\n" + "".join(f"_rln{label}\n" for label in labels)
    star = tmp_path / "p.star"
    star.write_text(optics + head + "\n".join(rows) + "\n")
    return star, write_cs(tmp_path / "p.cs", table)


def test_star_and_cs_of_the_same_particles_are_the_same_particles(pair):
    one, other = (open_particles(path) for path in pair)
    everything = torch.arange(N)
    assert torch.equal(one.read(everything), other.read(everything))
    one, other = one.table, other.table
    assert named(one) == named(other)
    torch.testing.assert_close(one.pose.rotation, other.pose.rotation, atol=2e-6, rtol=0)
    torch.testing.assert_close(one.pose.shift, other.pose.shift, atol=1e-6, rtol=0)
    for name, values in vars(one.ctf).items():
        torch.testing.assert_close(values, getattr(other.ctf, name), atol=1e-5, rtol=1e-6)
    np.testing.assert_array_equal(one.half, other.half)
    np.testing.assert_allclose(one.pixel_size_angstrom, other.pixel_size_angstrom, rtol=1e-7)


def test_each_of_the_pair_takes_poses_and_ctf_from_the_other(pair, tmp_path):
    star, cs = pair
    mixed = read_table(star, poses=cs, ctf=cs)
    plain = read_table(cs)
    assert torch.equal(mixed.pose.rotation, plain.pose.rotation)
    torch.testing.assert_close(mixed.pose.shift, plain.pose.shift, atol=1e-6, rtol=0)
    assert torch.equal(mixed.ctf.defocus_u_angstrom, plain.ctf.defocus_u_angstrom)


@pytest.mark.parametrize("name", ["empiar_10076_7"])
def test_a_real_pair_has_the_same_images_and_ctf(shared_data, name):
    folder = shared_data / "real" / "cryodrgn"
    one, other = (open_particles(folder / f"{name}.{kind}") for kind in ("star", "cs"))
    assert named(one.table) == named(other.table)
    for field, values in vars(one.table.ctf).items():
        torch.testing.assert_close(values, getattr(other.table.ctf, field), atol=1e-6, rtol=1e-6)


def test_a_real_cs_file_has_the_poses_that_another_program_writes_for_relion(shared_data, tmp_path):
    """cryoSPARC's 2,019 particles, turned into Euler angles by scipy and read as a STAR file."""
    source = shared_data / "real" / "cryodrgn" / "cryosparc_P12_J24_001_particles.cs"
    listed = np.load(source)
    rotation = Rotation.from_rotvec(listed["alignments3D/pose"].astype(float))
    rot, tilt, psi = rotation.as_euler("ZYZ", degrees=True).T
    x, y = listed["alignments3D/shift"].T * listed["alignments3D/psize_A"]
    labels = ["ImageName", "AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst",
              "PixelSize"]  # fmt: skip
    rows = [
        f"{idx + 1}@{path.decode()} {a:.8f} {b:.8f} {c:.8f} {u:.8f} {v:.8f} {size:.8f}"
        for idx, path, a, b, c, u, v, size in zip(
            listed["blob/idx"], listed["blob/path"], rot, tilt, psi, x, y, listed["blob/psize_A"],
            strict=True,
        )
    ]  # fmt: skip
    head = "data_\nloop_\n" + "".join(f"_rln{label}\n" for label in labels)
    (tmp_path / "p.star").write_text(head + "\n".join(rows) + "\n")
    star, cs = read_table(tmp_path / "p.star"), read_table(source)
    assert named(star) == named(cs)
    torch.testing.assert_close(star.pose.rotation, cs.pose.rotation, atol=2e-6, rtol=0)
    torch.testing.assert_close(star.pose.shift, cs.pose.shift, atol=2e-5, rtol=0)
