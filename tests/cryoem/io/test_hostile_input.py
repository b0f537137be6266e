"""Files that lie, one test per lie: a refusal of one or two lines, or a note that counts."""

import struct

import numpy as np
import pytest
import torch
from mrc_stacks import mrc_bytes, write_mrcs
from particle_files import LABELS, OPTICS, cs_blobs, star_rows, write_cs, write_star_31

from cryoem.errors import InputError
from cryoem.io.source import open_particles
from cryoem.io.table import read_table

ALL = torch.arange(6)


@pytest.fixture
def star(tmp_path):
    """Six rows for the six images of ``a.mrcs``, 8 pixels wide."""
    write_mrcs(tmp_path / "a.mrcs")
    return write_star_31(tmp_path / "p.star")


def refusal(path, **options):
    """Return what is said when a file is refused, after a look at the form."""
    with pytest.raises(InputError) as caught:
        open_particles(path, **options)
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 2
    return message


def patch(path, offset, content):
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


# Stacks: sizes


@pytest.mark.parametrize("kept", [0, 1, 1023, 1024, 1024 + 255, -256, -1])
def test_a_stack_cut_anywhere_is_refused(star, kept):
    stack = star.with_name("a.mrcs")
    whole = stack.read_bytes()
    stack.write_bytes(whole[:kept])
    for path in (star, stack):
        message = refusal(path)
        assert str(stack) in message
        assert f"{len(whole[:kept])}" in message
        assert "copy it again" in message


@pytest.mark.parametrize("n_images", [7, 600, 2**31 - 1])
def test_a_header_with_too_many_images_is_refused(star, n_images):
    patch(star.with_name("a.mrcs"), 8, struct.pack("<i", n_images))
    assert f"truncated, {n_images} images of 8 x 8 need" in refusal(star)


def test_a_header_with_too_few_images_is_refused_where_it_alone_counts(star):
    stack = star.with_name("a.mrcs")
    patch(stack, 8, struct.pack("<i", 4))
    assert "says 4 images, but 512 bytes follow them" in refusal(stack)
    assert "row 4 (from 0) wants image 5 of" in refusal(star)
    fewer = write_star_31(star.with_name("fewer.star"), star_rows(4))
    assert any(
        "1 of 1 stacks are longer than their headers say, first a.mrcs by 512 bytes" in note
        for note in open_particles(fewer).table.notes
    )


def test_an_extended_header_that_is_not_there_is_refused(star):
    patch(star.with_name("a.mrcs"), 92, struct.pack("<i", 1024))
    assert "truncated" in refusal(star)


# Rows and images


def test_more_rows_than_images_are_refused_by_the_first_of_them(tmp_path):
    write_mrcs(tmp_path / "a.mrcs", n=4)
    message = refusal(write_star_31(tmp_path / "p.star"))
    assert "row 4 (from 0) wants image 5 of" in message
    assert "a.mrcs, which has 4; is it the right stack?" in message


def test_fewer_rows_than_images_are_counted(tmp_path):
    write_mrcs(tmp_path / "a.mrcs", n=9)
    path = write_star_31(tmp_path / "p.star")
    note = "3 of 9 images in the stacks are in no row"
    assert note in open_particles(path).table.notes
    assert note in read_table(path).notes
    assert len(open_particles(path).table) == 6
    # somebody who selects rows knows that others are left out
    assert note not in open_particles(path, select="first:2").table.notes


def test_whole_stacks_and_whole_files_have_nothing_to_note(star):
    assert open_particles(star).table.notes == ()


# Columns

WIDTH = len(LABELS.split())


def rewritten(path, order, ends="\n", extra=False):
    """Write the file again with columns in another order, other ends of lines, more columns."""
    labels = [LABELS.split()[k] for k in order]
    rows = [[row.split()[k] for k in order] for row in star_rows()]
    if extra:
        labels.insert(1, "_rlnNewInVersion9")
        rows = [[row[0], "[1,2,3]", *row[1:]] for row in rows]
    head = OPTICS.format(groups="1 first 300 2.7 0.1 2.0 8")
    lines = [*head.splitlines(), "data_particles", "loop_", *labels, *map(" ".join, rows), ""]
    path.write_bytes(ends.join(lines).encode())
    return path


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("extra", [False, True])
def test_reordered_and_extra_columns_and_crlf_change_nothing(star, ends, extra):
    order = np.random.default_rng(0).permutation(WIDTH)
    other = rewritten(star.with_name("other.star"), order, ends, extra)
    table, again = open_particles(star).table, open_particles(other).table
    assert torch.equal(table.pose.rotation, again.pose.rotation)
    assert torch.equal(table.pose.shift, again.pose.shift)
    for name, values in vars(table.ctf).items():
        assert torch.equal(values, getattr(again.ctf, name))
    np.testing.assert_array_equal(table.frame, again.frame)
    assert again.notes == ()


@pytest.mark.parametrize("label", [label for label in LABELS.split() if "Defocus" in label])
def test_a_missing_column_of_the_ctf_is_named(star, label):
    order = [k for k, each in enumerate(LABELS.split()) if each != label]
    message = refusal(rewritten(star, order))
    assert str(star) in message
    assert f"missing column {label}" in message


def test_a_ragged_row_names_its_line(star):
    lines = star.read_text().splitlines()
    lines[-2] += " 0.5"
    star.write_text("\n".join(lines) + "\n")
    assert f"line {len(lines) - 1} has {WIDTH + 1} values" in refusal(star)


# Optics

GROUP = "{k} g{k} 300 2.7 0.1 {pixel} {box}"


def test_boxes_of_different_sizes_are_refused_by_name(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    groups = "1 first 300 2.7 0.1 2.0 8\n2 second 300 2.7 0.1 2.0 10"
    message = refusal(write_star_31(tmp_path / "p.star", star_rows(groups=2), groups))
    assert "first has 8 and second 10 pixels" in message


def test_stacks_of_different_sizes_are_refused_by_name(tmp_path):
    write_mrcs(tmp_path / "a.mrcs", side=8)
    write_mrcs(tmp_path / "b.mrcs", side=10)
    rows = star_rows(3) + star_rows(3, stack="b.mrcs")
    message = refusal(write_star_31(tmp_path / "p.star", rows))
    assert "a.mrcs has 8 and" in message
    assert "b.mrcs 10 pixels" in message


def with_optics(path, labels, values):
    """Two optics groups with more columns, whose values are given for each group."""
    head = OPTICS.replace("{groups}", "\n".join(labels) + "\n{groups}")
    groups = [f"{k} g{k} 300 2.7 0.1 2.0 8 {row}" for k, row in enumerate(values, start=1)]
    rows = "\n".join(star_rows(groups=2))
    text = head.format(groups="\n".join(groups)) + f"\ndata_particles\nloop_\n{LABELS}{rows}\n"
    path.write_text(text)
    return path


MAGNIFICATION = [f"_rlnMagMat{k}" for k in ("00", "01", "10", "11")]


@pytest.mark.parametrize(
    ("labels", "values", "note"),
    [
        (["_rlnBeamTiltX"], ["0.1", "0.0"], "_rlnBeamTiltX, set for 3 of 6 particles"),
        (["_rlnEvenZernike"], ["[0,0,-3]", "[]"], "_rlnEvenZernike, set for 3 of 6 particles"),
        (MAGNIFICATION, ["1 0 0 1", "1 0 0 1.01"], "_rlnMagMat11, set for 3 of 6 particles"),
        (["_rlnBeamTiltX", "_rlnOddZernike"], ["1 [0]", "0 [2]"], "set for 6 of 6 particles"),
        (["_rlnBeamTiltX", "_rlnBeamTiltY"], ["0 0", "0 0"], None),
        (["_rlnEvenZernike"], ["[0,0]", "[0.0,0]"], None),
        (MAGNIFICATION, ["1 0 0 1", "1.0 0.0 0.0 1.0"], None),
    ],
)
def test_aberrations_are_counted_as_not_applied_where_there_are_any(star, labels, values, note):
    notes = open_particles(with_optics(star, labels, values)).table.notes
    assert len(notes) == (note is not None)
    if note is not None:
        assert notes[0].startswith("aberrations are not applied: ")
        assert notes[0].endswith(note)


def test_aberrations_of_a_cs_file_are_counted(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    blobs = cs_blobs()
    scalars = ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast")
    fields = [(f"ctf/{name}", "<f4") for name in scalars]
    fields += [("ctf/tilt_A", "<f4", (2,)), ("ctf/trefoil_A", "<f4", (2,))]
    table = np.zeros(6, dtype=blobs.dtype.descr + fields)
    for name in blobs.dtype.names:
        table[name] = blobs[name]
    table["ctf/accel_kv"] = 300
    table["ctf/tilt_A"][4] = 0.2, 0
    notes = open_particles(write_cs(tmp_path / "p.cs", table)).table.notes
    assert notes == ("aberrations are not applied: ctf/tilt_A, set for 1 of 6 particles",)


@pytest.mark.parametrize(
    ("label", "value"),
    [("_rlnCtfDataArePhaseFlipped", "1"), ("_rlnCtfDataAreCtfPremultiplied", "1")],
)
def test_images_whose_ctf_is_dealt_with_are_refused_with_a_count(star, label, value):
    message = refusal(with_optics(star, [label], ["0", value]))
    assert f"{label} is not 0 in 1 of 2 rows of block data_optics" in message


def test_one_stack_per_particle_of_relion_5_is_not_read_as_one_image(star):
    text = "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n" + star.read_text()
    star.write_text(text.replace("00000", "").replace("@", ""))
    assert "tilt series as one stack per particle are not supported" in refusal(star)


def test_names_without_a_number_are_counted(star):
    star.write_text(star.read_text().replace("000001@", ""))
    notes = open_particles(star).table.notes
    assert any(note.startswith("1 of 6 image names are without a number") for note in notes)


# Values


@pytest.mark.parametrize("value", ["nan", "inf", "1e39", "1e300", "1e999"])
@pytest.mark.parametrize("label", ["_rlnOriginXAngst", "_rlnDefocusU", "_rlnAngleRot"])
def test_numbers_that_single_precision_cannot_hold_name_their_row(star, label, value):
    column = LABELS.split().index(label)
    rows = [row.split() for row in star_rows()]
    rows[3][column] = value
    message = refusal(write_star_31(star, [" ".join(row) for row in rows]))
    assert "row 3 (from 0)" in message
    assert "is not a finite number" in message


@pytest.mark.parametrize("index", [-1, 2**31, 2**40])
def test_an_image_number_out_of_all_range_names_its_row(tmp_path, index):
    blobs = cs_blobs()
    types = [
        (name, "<i8" if name == "blob/idx" else blobs.dtype[name]) for name in blobs.dtype.names
    ]
    table = blobs.astype(types)
    table["blob/idx"][2] = index
    message = refusal(write_cs(tmp_path / "p.cs", table))
    assert f"row 2 (from 0), blob/idx: {index} is not the number of an image" in message


@pytest.mark.parametrize("box", ["0", "-8", "8.5", "1e9"])
def test_a_senseless_box_size_is_refused(tmp_path, box):
    write_mrcs(tmp_path / "a.mrcs")
    path = write_star_31(tmp_path / "p.star", groups=f"1 first 300 2.7 0.1 2.0 {box}")
    assert "_rlnImageSize" in refusal(path)


# Types of pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "i2", "u2", "f2", "f4"])
def test_every_type_of_pixel_gives_the_same_images(star, kind, order):
    images = write_mrcs(star.with_name("a.mrcs"), kind=kind, order=order)
    assert torch.equal(open_particles(star).read(ALL), torch.from_numpy(images))


def test_stacks_of_different_types_are_read_together(tmp_path):
    kinds = {"a": ("i1", "<"), "b": ("u2", ">"), "c": ("f2", "<"), "d": ("f4", ">")}
    images = [
        write_mrcs(tmp_path / f"{name}.mrcs", n=2, kind=kind, order=order, seed=k)
        for k, (name, (kind, order)) in enumerate(kinds.items())
    ]
    rows = [row for name in kinds for row in star_rows(2, stack=f"{name}.mrcs")]
    source = open_particles(write_star_31(tmp_path / "p.star", rows))
    assert torch.equal(source.read(torch.arange(8)), torch.from_numpy(np.concatenate(images)))


@pytest.mark.parametrize("mode", [3, 4, 5, 101, -1, 255])
def test_pixels_of_another_kind_are_refused(star, mode):
    patch(star.with_name("a.mrcs"), 12, struct.pack("<i", mode))
    assert str(star.with_name("a.mrcs")) in refusal(star)


# Paths


@pytest.fixture
def secret(tmp_path):
    """A stack beside the data root, not in it."""
    write_mrcs(tmp_path / "secret.mrcs", seed=5)
    (tmp_path / "root" / "sub").mkdir(parents=True)
    return tmp_path / "secret.mrcs"


@pytest.mark.parametrize("written", ["../secret.mrcs", "sub/../../secret.mrcs", "./../secret.mrcs"])
@pytest.mark.parametrize("kind", ["star", "cs"])
def test_a_path_that_leads_out_of_the_root_is_not_followed(tmp_path, secret, written, kind):
    root = tmp_path / "root"
    if kind == "star":
        path = write_star_31(root / "p.star", star_rows(stack=written))
    else:
        path = write_cs(root / "p.cs", cs_blobs(stack=written))
    message = refusal(path, root=root)
    assert f"stack '{written}' is not there" in message
    assert f"looked below {root}, which the path leaves" in message
    write_mrcs(root / "secret.mrcs", seed=6)  # by its name alone it is found in the root
    assert open_particles(path, root=root).table.stacks == (root / "secret.mrcs",)


def test_a_list_does_not_lead_out_of_the_root(tmp_path, secret):
    path = tmp_path / "root" / "list.txt"
    path.write_text("../secret.mrcs\n")
    assert "line 1: stack '../secret.mrcs' is not there" in refusal(path, root=path.parent)


def test_absolute_paths_outside_the_root_are_counted(tmp_path, secret):
    root = tmp_path / "root"
    path = write_star_31(root / "p.star", star_rows(stack=secret))
    notes = open_particles(path, root=root).table.notes
    assert len(notes) == 1
    assert notes[0].startswith(f"1 of 1 stacks lie outside data.root={root}")
    assert open_particles(path).table.notes == ()


def test_a_link_to_a_stack_elsewhere_is_followed(tmp_path, secret):
    root = tmp_path / "root"
    (root / "sub" / "a.mrcs").symlink_to(secret)  # cryoSPARC's imports are such links
    path = write_star_31(root / "p.star", star_rows(stack="sub/a.mrcs"))
    assert open_particles(path, root=root).table.notes == ()


# Something else in the place of a file

ROLES = {
    "p.star": (), "p.cs": (), "p.mrcs": (), "p.txt": (),
    "poses.pkl": ("poses",), "ctf.pkl": ("ctf",), "rows.npy": ("select",), "rows.pkl": ("select",),
    "rows.npz": ("select",), "pass.cs": ("passthrough",), "other.star": ("poses", "ctf", "select"),
}  # fmt: skip


def refusal_as(path, roles):
    """Offer a file in each of its roles beside good files."""
    good = write_cs(path.with_name("good.cs"), cs_blobs())
    write_mrcs(path.with_name("a.mrcs"))
    if not roles:
        return [refusal(path)]
    return [refusal(good, **{role: path}) for role in roles]


@pytest.mark.parametrize("name", ROLES)
def test_an_empty_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).touch()
    for message in refusal_as(tmp_path / name, ROLES[name]):
        assert str(tmp_path / name) in message


@pytest.mark.parametrize("name", ROLES)
def test_a_folder_in_place_of_a_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).mkdir()
    for message in refusal_as(tmp_path / name, ROLES[name]):
        assert str(tmp_path / name) in message
        assert "directory" in message or "folder" in message


def test_a_folder_in_place_of_a_stack_is_not_there(star):
    star.with_name("a.mrcs").unlink()
    star.with_name("a.mrcs").mkdir()
    assert "stack 'a.mrcs' is not there" in refusal(star)


@pytest.mark.parametrize("name", ROLES)
def test_a_picture_in_place_of_a_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)
    for message in refusal_as(tmp_path / name, ROLES[name]):
        assert str(tmp_path / name) in message


@pytest.mark.parametrize(("n", "space_group"), [(8, 1), (8, 401), (24, 401)])
def test_a_volume_in_place_of_a_stack_is_refused_or_noted(tmp_path, n, space_group):
    write_mrcs(tmp_path / "map.mrc", n=n, space_group=space_group)
    assert f"is a volume of 8 x 8 x {n} voxels" in refusal(tmp_path / "map.mrc")
    rows = star_rows(n, stack="map.mrc")
    notes = open_particles(write_star_31(tmp_path / "p.star", rows)).table.notes
    assert any(note.startswith("1 of 1 stacks may be volumes, first map.mrc") for note in notes)


# Files that change


def test_a_stack_that_shrinks_after_it_was_opened_is_refused_and_nothing_crashes(star):
    stack = star.with_name("a.mrcs")
    source = open_particles(star)
    whole = source.read(ALL)
    with stack.open("r+b") as file:
        file.truncate(1024 + 3 * 256)
    assert torch.equal(source.read(ALL[:3]), whole[:3])
    with pytest.raises(InputError, match=r"a\.mrcs: has become shorter"):
        source.read(ALL)


def test_a_stack_that_goes_away_is_refused_by_name(star):
    source = open_particles(star)
    star.with_name("a.mrcs").unlink()
    with pytest.raises(InputError, match=r"a\.mrcs: cannot be read \(No such file"):
        source.read(ALL)


def test_a_stack_of_the_wrong_machine_is_read_all_the_same(star):
    values = np.arange(6 * 64, dtype="f4").reshape(6, 8, 8)
    star.with_name("a.mrcs").write_bytes(mrc_bytes(values, order=">", stamp=b"\x44\x44\0\0"))
    assert torch.equal(open_particles(star).read(ALL), torch.from_numpy(values))
