import pickle

import numpy as np
import pytest
import torch
from mrc_stacks import mrc_bytes, write_mrcs
from particle_files import cs_blobs, cs_poses, star_rows, write_cs, write_star_31

from cryoem.batch import Pose
from cryoem.errors import InputError
from cryoem.io.source import ParticleSource, open_particles
from cryoem.io.table import read_table
from cryoem.rotations import random_rotations

ROTATIONS = random_rotations(6, torch.Generator().manual_seed(0)).numpy()


@pytest.fixture
def images(tmp_path):
    return write_mrcs(tmp_path / "a.mrcs")


@pytest.fixture
def star(tmp_path, images):
    return write_star_31(tmp_path / "p.star")


def dump(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


# Bare stacks and lists


def test_a_bare_stack_has_images_and_nothing_else(tmp_path, images):
    source = open_particles(tmp_path / "a.mrcs")
    assert isinstance(source, ParticleSource)
    np.testing.assert_array_equal(source.read(torch.tensor([5, 0, 3])), images[[5, 0, 3]])
    assert source.table.pose is None
    assert source.table.ctf is None
    assert source.geometry.pixel_size_angstrom == 2.0
    assert source.table.origin["pixel_size"] == "stack header"


def test_an_unknown_pixel_size_is_assumed_and_said_so(tmp_path):
    write_mrcs(tmp_path / "a.mrcs", pixel=0.0)
    table = open_particles(tmp_path / "a.mrcs").table
    assert table.origin["pixel_size"] == "assumed"
    assert any("1 A is assumed; set data.pixel_size" in note for note in table.notes)
    given = open_particles(tmp_path / "a.mrcs", pixel_size_angstrom=1.5)
    assert given.geometry.pixel_size_angstrom == 1.5
    assert given.table.origin["pixel_size"] == "given"


def test_a_given_pixel_size_does_not_move_particles(star):
    """Shifts in Angstrom were written with the file's pixel size, right or wrong."""
    plain, given = read_table(star), read_table(star, pixel_size_angstrom=3.0)
    torch.testing.assert_close(given.pose.shift, plain.pose.shift)
    np.testing.assert_array_equal(given.pixel_size_angstrom, 3.0)


def test_a_list_joins_its_stacks_in_order(tmp_path):
    first = write_mrcs(tmp_path / "sub" / "a.mrcs", n=2)
    second = write_mrcs(tmp_path / "b.mrcs", n=3, kind="i2", order=">", seed=1)
    (tmp_path / "list.txt").write_text("sub/a.mrcs\n\n# the second day\nb.mrcs  \n")
    source = open_particles(tmp_path / "list.txt")
    expected = np.concatenate([first, second])
    np.testing.assert_array_equal(source.read(torch.arange(5)), expected)
    assert source.table.frame.tolist() == [0, 1, 0, 1, 2]


def test_a_list_that_names_a_missing_stack_says_the_line(tmp_path, images):
    (tmp_path / "list.txt").write_text("a.mrcs\nb.mrcs\n")
    with pytest.raises(InputError, match=r"list\.txt: line 2: stack 'b.mrcs' is not there"):
        open_particles(tmp_path / "list.txt")


def test_a_volume_given_for_particles_is_recognised(tmp_path):
    write_mrcs(tmp_path / "map.mrc", n=8, space_group=1)
    with pytest.raises(InputError, match=r"map\.mrc: is a volume of 8 x 8 x 8"):
        open_particles(tmp_path / "map.mrc")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 65, 65), "box size must be even, got 65; crop or pad by one"),
        ((3, 8, 10), "not square, 10 x 8"),
        ((3, 6, 6), "must be at least 8"),
    ],
)
def test_images_of_an_unusable_shape_are_refused(tmp_path, shape, message):
    (tmp_path / "a.mrcs").write_bytes(mrc_bytes(np.zeros(shape, "f4")))
    with pytest.raises(InputError, match=message):
        open_particles(tmp_path / "a.mrcs")


def test_stacks_that_differ_in_size_are_both_named(tmp_path):
    write_mrcs(tmp_path / "a.mrcs", side=8)
    write_mrcs(tmp_path / "b.mrcs", side=10)
    (tmp_path / "list.txt").write_text("a.mrcs\nb.mrcs\n")
    with pytest.raises(InputError, match=r"a\.mrcs has 8 and .*b\.mrcs 10 pixels"):
        open_particles(tmp_path / "list.txt")


def test_a_truncated_stack_stops_the_run_but_not_the_look_at_the_table(tmp_path, star):
    stack = tmp_path / "a.mrcs"
    stack.write_bytes(stack.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.mrcs: truncated"):
        open_particles(star)
    assert any("truncated" in note for note in read_table(star).notes)


@pytest.mark.parametrize("name", ["p.docx", "p", "p.pkl"])
def test_other_files_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=rf"{name}: not a particle file; give \.star"):
        open_particles(tmp_path / name)


@pytest.mark.parametrize("name", ["p.star", "p.cs", "p.mrcs", "p.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        open_particles(tmp_path / name)


# The table


def test_a_selection_of_a_table_keeps_every_column_in_step(star):
    table = read_table(star)
    part = table.select([4, 1])
    assert part.row.tolist() == [4, 1]
    assert part.n_rows == 6
    assert part.micrograph.tolist() == ["m2.mrc", "m0.mrc"]
    torch.testing.assert_close(part.pose.rotation, table.pose.rotation[[4, 1]])
    torch.testing.assert_close(part.ctf.scale, table.ctf.scale[[4, 1]])


def test_a_source_travels_to_a_worker_process(star, images):
    source = open_particles(star)
    source.read(torch.arange(2))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read(torch.arange(6)), images)


# Selections


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.npy", np.array([4, 1])),
        ("r.npy", np.array([False, True, False, False, True, False])),
        ("r.pkl", np.array([4, 1])),
        ("r.pkl", [1, 4]),
    ],
)
def test_rows_are_selected_in_the_order_of_the_file(tmp_path, star, images, name, content):
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, content)
    else:
        dump(path, content)
    source = open_particles(star, select=path)
    assert source.table.row.tolist() == [1, 4]
    assert (len(source.table), source.table.n_rows) == (2, 6)
    np.testing.assert_array_equal(source.read(torch.arange(2)), images[[1, 4]])


def test_an_npz_of_latents_selects_by_its_index(tmp_path, star):
    np.savez(tmp_path / "r.npz", index=np.array([0, 5]), z=np.zeros((2, 3)))
    assert read_table(star, select=tmp_path / "r.npz").row.tolist() == [0, 5]


def test_first_takes_the_first_rows(star):
    assert read_table(star, select="first:2").row.tolist() == [0, 1]
    assert len(read_table(star, select="first:1000")) == 6


def test_a_star_file_selects_the_same_images_however_they_are_spelled(tmp_path, star):
    rows = [star_rows(stack="a.mrcs")[k] for k in (5, 2)]
    part = write_star_31(tmp_path / "part.star", rows)
    assert read_table(star, select=part).row.tolist() == [2, 5]
    moved = [row.replace("a.mrcs", "Extract/job9/a.mrcs") for row in rows]
    part = write_star_31(tmp_path / "moved.star", moved)
    assert read_table(star, select=part).row.tolist() == [2, 5]


def test_a_cs_file_selects_by_uid(tmp_path, images):
    particles = write_cs(tmp_path / "p.cs", cs_blobs())
    part = write_cs(tmp_path / "part.cs", cs_blobs()[[3, 0]])
    assert read_table(particles, select=part).row.tolist() == [0, 3]


def test_stacks_that_no_selected_row_needs_may_be_missing(tmp_path, images):
    rows = star_rows()[:3] + star_rows(stack="gone.mrcs")[3:]
    path = write_star_31(tmp_path / "p.star", rows)
    assert len(open_particles(path, select="first:3").table) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 6], "row 6 does not exist.* has 6 rows"),
        ([-1, 2], "row -1 does not exist"),
        ([2, 1, 2], "row 2 is chosen more than once"),
        ([], "chooses no particle|not row numbers"),
        ([1.5], "not row numbers"),
        ([True, False], "not row numbers"),
        ({"a": 1}, "not row numbers"),
        ([[0], [1, 2]], "not row numbers"),
    ],
)
def test_bad_selections_are_named(tmp_path, star, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_table(star, select=dump(tmp_path / "r.pkl", content))
    assert "r.pkl" in str(caught.value)


@pytest.mark.parametrize("select", ["first:0", "first:x", "first:-1", "rows.csv", "all"])
def test_selections_that_are_not_understood_are_quoted(star, select):
    with pytest.raises(InputError, match=f"data.select={select}"):
        read_table(star, select=select)


def test_a_selection_of_other_particles_is_refused_with_counts(tmp_path, star):
    part = write_star_31(tmp_path / "part.star", star_rows(n=8)[5:])
    with pytest.raises(InputError, match=r"2 of 3 particles are not in .*7@a\.mrcs in row 1"):
        read_table(star, select=part)


# Poses and CTF from elsewhere


def ctf_pickle(path, box=16.0, pixel=1.0, n=6):
    k = np.arange(n)
    columns = [box, pixel, 20000 + k, 19000 + k, 5.0 * k, 200, 2.0, 0.07, 1.0 * k]
    table = np.stack([np.broadcast_to(column, n) for column in columns], axis=1)
    return dump(path, table.astype("f4"))


def test_cryodrgns_pickles_complete_a_bare_stack(tmp_path, images):
    fraction = np.linspace(-0.1, 0.1, 12).reshape(6, 2)
    table = open_particles(
        tmp_path / "a.mrcs",
        poses=dump(tmp_path / "pose.pkl", (ROTATIONS, fraction)),
        ctf=ctf_pickle(tmp_path / "ctf.pkl"),
    ).table
    np.testing.assert_allclose(table.pose.rotation, ROTATIONS, atol=1e-6)
    np.testing.assert_allclose(table.pose.shift, 8 * fraction, rtol=1e-6)  # 8 pixels, not 9
    torch.testing.assert_close(table.ctf.defocus_u_angstrom, 20000 + torch.arange(6.0))
    torch.testing.assert_close(table.ctf.phase_shift_degrees, torch.arange(6.0))
    np.testing.assert_array_equal(table.pixel_size_angstrom, 2.0)  # 16 pixels of 1 A, now 8
    assert table.origin["rotation"] == "pose.pkl (data.poses)"
    assert table.origin["pixel_size"] == "ctf.pkl"


@pytest.mark.parametrize("content", [(ROTATIONS,), ROTATIONS, [ROTATIONS, np.zeros((6, 2))]])
def test_poses_without_shifts_are_centred(tmp_path, images, content):
    table = open_particles(tmp_path / "a.mrcs", poses=dump(tmp_path / "pose.pkl", content)).table
    assert (table.pose.shift == 0).all()


def test_overrides_win_over_the_particle_file(tmp_path, star):
    poses = dump(tmp_path / "pose.pkl", (ROTATIONS, np.zeros((6, 2))))
    table = open_particles(star, poses=poses, ctf=ctf_pickle(tmp_path / "ctf.pkl")).table
    np.testing.assert_allclose(table.pose.rotation, ROTATIONS, atol=1e-6)
    assert table.ctf.voltage_kilovolts.tolist() == [200] * 6
    assert table.half is not None  # from the star file, still


def test_overrides_are_counted_before_a_selection(tmp_path, star):
    poses = dump(tmp_path / "pose.pkl", (ROTATIONS, np.zeros((6, 2))))
    table = open_particles(star, poses=poses, select="first:2").table
    np.testing.assert_allclose(table.pose.rotation, ROTATIONS[:2], atol=1e-6)


def test_a_star_file_gives_poses_ctf_and_pixel_size_to_a_stack_in_another_order(tmp_path, star):
    """The images of the stack are matched by name, so the rows may be in any order."""
    expected = read_table(star)
    rows = [star_rows()[k] for k in (3, 0, 5, 1, 4, 2)]
    shuffled = write_star_31(tmp_path / "shuffled.star", rows)
    write_mrcs(tmp_path / "a.mrcs", pixel=1.0)
    table = open_particles(tmp_path / "a.mrcs", poses=shuffled, ctf=shuffled).table
    torch.testing.assert_close(table.pose.rotation, expected.pose.rotation)
    torch.testing.assert_close(table.pose.shift, expected.pose.shift)
    torch.testing.assert_close(table.ctf.defocus_u_angstrom, expected.ctf.defocus_u_angstrom)
    np.testing.assert_array_equal(table.pixel_size_angstrom, 2.0)


def test_poses_from_larger_images_are_scaled_with_the_box(tmp_path, star):
    write_mrcs(tmp_path / "binned.mrcs", side=16)
    table = open_particles(tmp_path / "binned.mrcs", poses=star).table
    torch.testing.assert_close(table.pose.shift, 2 * read_table(star).pose.shift)
    np.testing.assert_array_equal(table.pixel_size_angstrom, 1.0)


def test_a_cs_file_gives_poses_to_a_cs_file_by_uid(tmp_path, images):
    poses = cs_poses()
    blobs = cs_blobs()
    both = np.zeros(6, dtype=blobs.dtype.descr + poses.dtype.descr[1:])
    for table in (blobs, poses):
        for name in table.dtype.names:
            both[name] = table[name]
    particles = write_cs(tmp_path / "p.cs", blobs)
    given = write_cs(tmp_path / "poses.cs", both[::-1])
    passthrough = write_cs(tmp_path / "pass.cs", poses)
    table = open_particles(particles, poses=given).table
    expected = open_particles(particles, passthrough=passthrough).table
    torch.testing.assert_close(table.pose.rotation, expected.pose.rotation)
    torch.testing.assert_close(table.pose.shift, expected.pose.shift)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((ROTATIONS[:5],), "has 5 poses, but .* has 6 particles"),
        ((ROTATIONS, np.zeros((5, 2))), r"shifts of shape \(5, 2\)"),
        ((ROTATIONS, np.full((6, 2), 4.0)), "row 0 .*no fraction of the box"),
        ((2 * ROTATIONS,), "row 0 .*not a rotation matrix"),
        ((-ROTATIONS,), "not a rotation matrix"),
        ((np.full((6, 3, 3), np.nan),), "not a finite number"),
        (np.zeros((6, 9)), "not a pose file"),
        ((), "not an array|not a pose file"),
        ({"a": 1}, "not an array"),
    ],
)
def test_bad_pose_pickles_are_named(tmp_path, images, content, message):
    with pytest.raises(InputError, match=message) as caught:
        open_particles(tmp_path / "a.mrcs", poses=dump(tmp_path / "pose.pkl", content))
    assert "pose.pkl" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_bad_ctf_pickles_are_named(tmp_path, images):
    path = dump(tmp_path / "ctf.pkl", np.zeros((6, 8)))
    with pytest.raises(InputError, match=r"ctf\.pkl: not a CTF file, its shape is \(6, 8\)"):
        open_particles(tmp_path / "a.mrcs", ctf=path)
    path = ctf_pickle(tmp_path / "ctf.pkl", n=5)
    with pytest.raises(InputError, match=r"has 5 CTF rows, but .*a\.mrcs has 6 particles"):
        open_particles(tmp_path / "a.mrcs", ctf=path)


@pytest.mark.parametrize("key", ["poses", "ctf"])
def test_a_file_that_lacks_what_it_is_given_for_is_named(tmp_path, images, key):
    (tmp_path / "bare.star").write_text(
        "data_\nloop_\n_rlnImageName\n" + "".join(f"{k}@a.mrcs\n" for k in range(1, 7))
    )
    with pytest.raises(InputError, match=rf"bare\.star: given as data\.{key}, but has no"):
        open_particles(tmp_path / "a.mrcs", **{key: tmp_path / "bare.star"})
    with pytest.raises(InputError, match=rf"data\.{key}=.*a\.mrcs: give a \.star, \.cs or"):
        open_particles(tmp_path / "a.mrcs", **{key: tmp_path / "a.mrcs"})


def test_toy_and_hand_take_their_golden_poses(shared_data):
    folder = shared_data / "real" / "cryodrgn"
    toy = open_particles(
        folder / "toy_projections.txt",
        poses=folder / "toy_rot_trans.pkl",
        ctf=folder / "test_ctf.pkl",
        select=folder / "ind100.pkl",
    ).table
    assert (len(toy), toy.n_rows, toy.box_size) == (100, 1000, 30)
    assert isinstance(toy.pose, Pose)
    assert toy.ctf.phase_shift_degrees.unique().tolist() == [90]
    hand = open_particles(folder / "hand.mrcs", poses=folder / "hand_rot.pkl")
    assert (hand.table.pose.shift == 0).all()


def test_the_tilt_series_takes_its_pixel_size_from_the_ctf_pickle(shared_data):
    folder = shared_data / "real" / "cryodrgn"
    source = open_particles(
        folder / "sta_testing_bin8.star",
        poses=folder / "sta_pose.pkl",
        ctf=folder / "sta_ctf.pkl",
    )
    assert source.geometry.pixel_size_angstrom == pytest.approx(512 * 1.82 / 64, rel=1e-6)
