import numpy as np
import pytest
import torch
from mrc_stacks import write_mrcs
from particle_files import cs_blobs, cs_poses, write_cs
from scipy.spatial.transform import Rotation

from cryoem.errors import InputError
from cryoem.io.pickles import load_pickle
from cryoem.io.source import open_particles
from cryoem.io.table import read_table


@pytest.fixture
def blobs(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    return write_cs(tmp_path / "p.cs", cs_blobs())


def test_a_passthrough_in_any_order_brings_the_poses(tmp_path, blobs):
    poses = cs_poses()
    shuffled = poses[[3, 1, 5, 0, 4, 2]]
    extra = cs_poses(7)[6:]  # of a particle that the main file left out
    passthrough = write_cs(tmp_path / "pass.cs", np.concatenate([extra, shuffled]))
    table = open_particles(blobs, passthrough=passthrough).table
    expected = Rotation.from_rotvec(poses["alignments3D/pose"]).as_matrix().transpose(0, 2, 1)
    np.testing.assert_allclose(table.pose.rotation.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(table.pose.rotation[0], torch.eye(3))
    # 4 A pixels in the alignment, 2 A in the images: twice as many pixels
    np.testing.assert_allclose(table.pose.shift, 2 * poses["alignments3D/shift"], rtol=1e-6)
    np.testing.assert_array_equal(table.half, [0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 1, 2, 3], "2 of 6 uids"), ([0, 1, 2, 3, 4, 5, 5], "1 uids of p.cs occur twice")],
)
def test_a_passthrough_that_does_not_fit_is_refused_with_counts(tmp_path, blobs, rows, message):
    passthrough = write_cs(tmp_path / "pass.cs", cs_poses()[rows])
    with pytest.raises(InputError, match=rf"pass\.cs: {message}"):
        open_particles(blobs, passthrough=passthrough)


def test_files_that_lack_the_images_ask_for_the_passthrough(tmp_path):
    path = write_cs(tmp_path / "p.cs", cs_poses())
    with pytest.raises(InputError, match=r"missing field blob/path, blob/idx.*passthrough"):
        read_table(path)


def test_a_passthrough_of_a_star_file_is_refused(tmp_path, blobs):
    (tmp_path / "p.star").write_text("data_\nloop_\n_rlnImageName\n1@a.mrcs\n")
    with pytest.raises(InputError, match=r"only a \.cs file has one"):
        read_table(tmp_path / "p.star", passthrough=blobs)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"hello", b"\x93NUMPY\x01\x00\x04\x00{}  "])
def test_what_is_no_cs_file_is_said_so(tmp_path, content):
    (tmp_path / "p.cs").write_bytes(content)
    with pytest.raises(InputError, match=r"p\.cs: not a readable"):
        read_table(tmp_path / "p.cs")


def test_objects_in_a_cs_file_are_not_unpickled(tmp_path):
    with (tmp_path / "p.cs").open("wb") as file:
        np.save(file, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="refused to load pickled objects"):
        read_table(tmp_path / "p.cs")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("blob/shape", [8, 9], "not square"),
        ("blob/psize_A", 0, "psize_A: 0 is not within"),
        ("blob/psize_A", np.nan, "psize_A: nan"),
    ],
)
def test_senseless_fields_are_named(tmp_path, field, value, message):
    table = cs_blobs()
    table[field] = value
    with pytest.raises(InputError, match=message):
        read_table(write_cs(tmp_path / "p.cs", table))


@pytest.mark.parametrize(
    ("field", "kind"), [("blob/path", "<f4"), ("blob/idx", "S4"), ("blob/shape", ("<u4", (3,)))]
)
def test_fields_of_another_type_are_named(tmp_path, field, kind):
    types = cs_blobs().dtype
    fields = [(name, kind if name == field else types[name]) for name in types.names]
    with pytest.raises(InputError, match=f"field {field} has values of type"):
        read_table(write_cs(tmp_path / "p.cs", np.zeros(3, dtype=fields)))


def test_p12_equals_the_golden_pickles(shared_data):
    folder = shared_data / "real" / "cryodrgn"
    table = read_table(folder / "cryosparc_P12_J24_001_particles.cs")
    rotation, shift = load_pickle(folder / "pose.cs.pkl")
    golden = load_pickle(folder / "ctf2.pkl")
    np.testing.assert_allclose(table.pose.rotation.numpy(), rotation, atol=1e-6)
    np.testing.assert_allclose(table.pose.shift.numpy() / 180, shift, atol=1e-7)
    assert (len(table), table.box_size) == (2019, 180)
    np.testing.assert_array_equal(table.pixel_size_angstrom, golden[:, 1])
    np.testing.assert_array_equal(table.ctf.defocus_u_angstrom, golden[:, 2])
    np.testing.assert_array_equal(table.ctf.defocus_v_angstrom, golden[:, 3])
    np.testing.assert_allclose(table.ctf.defocus_angle_degrees, golden[:, 4], rtol=1e-6)
    np.testing.assert_array_equal(table.ctf.voltage_kilovolts, golden[:, 5])
    np.testing.assert_array_equal(table.ctf.amplitude_contrast, golden[:, 7])


def test_two_dimensional_alignments_are_no_poses(shared_data):
    table = read_table(shared_data / "real" / "cryodrgn" / "cryosparc_J2_particles_exported.cs")
    assert (len(table), table.pose) == (22, None)
    assert all(stack.parts[-3] == "J1" for stack in table.stacks)  # no '>' is left
    assert "2-D alignments only: they are not poses" in table.notes


def test_empiar_10076_is_the_same_as_star_and_as_cs(shared_data):
    folder = shared_data / "real" / "cryodrgn"
    star, cs = (open_particles(folder / f"empiar_10076_7.{kind}") for kind in ("star", "cs"))
    everything = torch.arange(7)
    torch.testing.assert_close(star.read(everything), cs.read(everything), rtol=0, atol=0)
    np.testing.assert_allclose(star.table.pixel_size_angstrom, cs.table.pixel_size_angstrom, 1e-6)
    for name in vars(star.table.ctf):
        torch.testing.assert_close(
            getattr(star.table.ctf, name), getattr(cs.table.ctf, name), rtol=1e-6, atol=1e-6
        )
    assert star.table.pose is None
    assert cs.table.pose is None


def test_a_passthrough_may_have_hundreds_of_fields(tmp_path, blobs):
    poses = cs_poses()
    many = [("uid", "<u8")] + [(f"alignments_class_3D_{k:03d}/shift", "<f4") for k in range(300)]
    table = np.zeros(6, dtype=many)
    table["uid"] = poses["uid"]
    assert len(read_table(blobs, passthrough=write_cs(tmp_path / "pass.cs", table))) == 6
