import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mrc_stacks import write_mrcs
from particle_files import LABELS, ONE_GROUP, TWO_GROUPS, star_rows, write_star_31

from cryoem.errors import InputError
from cryoem.io.pickles import load_pickle
from cryoem.io.source import open_particles
from cryoem.io.table import read_table


@pytest.fixture
def star(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    return write_star_31(tmp_path / "p.star")


def ctf_columns(table):
    """cryoDRGN's columns 2 to 8."""
    ctf = table.ctf
    return torch.stack(
        [ctf.defocus_u_angstrom, ctf.defocus_v_angstrom, ctf.defocus_angle_degrees,
         ctf.voltage_kilovolts, ctf.spherical_aberration_mm, ctf.amplitude_contrast,
         ctf.phase_shift_degrees], dim=1
    ).numpy()  # fmt: skip


def test_every_column_arrives_in_our_units(star):
    table = open_particles(star).table
    k = torch.arange(6.0)
    assert (len(table), table.n_rows, table.box_size) == (6, 6, 8)
    np.testing.assert_array_equal(table.pixel_size_angstrom, 2.0)
    torch.testing.assert_close(table.ctf.defocus_u_angstrom, 15000.5 + k)
    torch.testing.assert_close(table.ctf.phase_shift_degrees, k)
    torch.testing.assert_close(table.ctf.voltage_kilovolts, torch.full((6,), 300.0))
    torch.testing.assert_close(table.ctf.scale, torch.ones(6))
    torch.testing.assert_close(table.pose.shift, torch.stack([k / 4, -k / 8], dim=1))
    np.testing.assert_array_equal(table.half, [0, 1, 0, 1, 0, 1])
    assert list(table.micrograph[:3]) == ["m0.mrc", "m0.mrc", "m1.mrc"]
    assert table.origin["rotation"] == "p.star:_rlnAngleRot,_rlnAngleTilt,_rlnAnglePsi"


def test_the_rotation_is_relions_euler_matrix(tmp_path):
    rows = ["1@a.mrcs -147.9485 22.58999 162.539"]
    labels = "_rlnImageName\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"
    path = write_star_31(tmp_path / "p.star", rows, labels=labels)
    expected = [
        [0.90571941, 0.21306972, 0.36643367],
        [-0.27142096, 0.95553406, 0.11526193],
        [-0.32558103, -0.20385275, 0.92327734],
    ]
    rotation = read_table(path).pose.rotation[0]
    torch.testing.assert_close(rotation, torch.tensor(expected), atol=1e-7, rtol=0)


def test_two_optics_groups_give_each_particle_its_own_voltage_and_pixel_size(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    path = write_star_31(tmp_path / "p.star", star_rows(groups=2), TWO_GROUPS)
    source = open_particles(path)
    table = source.table
    np.testing.assert_array_equal(table.ctf.voltage_kilovolts, [300, 200] * 3)
    np.testing.assert_array_equal(table.pixel_size_angstrom, [2.0, 2.5] * 3)
    k = torch.arange(6.0)
    torch.testing.assert_close(table.pose.shift[:, 0], 0.5 * k / torch.tensor([2.0, 2.5] * 3))
    assert source.geometry.pixel_size_angstrom == 2.0


def without(label, index):
    labels = LABELS.replace(label + "\n", "")
    rows = [" ".join(w for k, w in enumerate(r.split()) if k != index) for r in star_rows()]
    return {"labels": labels, "rows": rows}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("_rlnImageName", 0), "no column _rlnImageName"),
        (without("_rlnDefocusV", 4), "missing column _rlnDefocusV"),
        (without("_rlnAngleTilt", 8), "missing column _rlnAngleTilt"),
        (without("_rlnOriginYAngst", 11), "_rlnOriginXAngst without its fellow"),
        ({"rows": star_rows(groups=3)}, "line 34, _rlnOpticsGroup 2 is not in block data_optics"),
        ({"groups": "1 a 300 2.7 .1 2 8\n2 b 300 2.7 .1 2 10", "rows": star_rows(groups=2)},
         "optics groups differ in box size, a has 8 and b 10"),
        ({"groups": "1 a 300 2.7 .1 2 8\n1 b 300 2.7 .1 2 8"}, "lists an _rlnOpticsGroup twice"),
        ({"groups": "1 a 300000 2.7 .1 2 8"}, "voltage_kilovolts: 300000 is not within"),
        ({"groups": "1 a 300 2.7 .1 0 8"}, "_rlnImagePixelSize: 0 is not within"),
        ({"rows": [star_rows()[0].replace("-40.5", "nan")]}, "row 0.*_rlnAngleRot: nan"),
        ({"rows": [star_rows()[0].replace("-40.5", "abc")]}, "line 33, _rlnAngleRot: 'abc'"),
        ({"rows": [star_rows()[0].replace("000001@", "000000@")]}, "numbers from 1"),
        ({"rows": [star_rows()[0].replace("000001@", "x@")]}, "is not NUMBER@STACK"),
        ({"rows": [star_rows()[0].replace("000001@", "000009@")]}, "image 9 of .*which has 6"),
        ({"rows": [star_rows()[0].replace("a.mrcs", "b.mrcs")]}, "stack 'b.mrcs' is not there"),
    ],
)  # fmt: skip
def test_bad_star_files_are_named_with_the_row_and_the_way_out(tmp_path, change, message):
    write_mrcs(tmp_path / "a.mrcs")
    path = write_star_31(tmp_path / "p.star", **change)
    with pytest.raises(InputError, match=message) as caught:
        open_particles(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [("_rlnCtfDataAreCtfPremultiplied", 1, "premultiplied"), ("_rlnImageDimensionality", 3, "3-D")],
)
def test_images_of_an_unsupported_kind_are_refused(tmp_path, label, value, message):
    write_mrcs(tmp_path / "a.mrcs")
    rows = [f"{row} {value}" for row in star_rows()]
    path = write_star_31(tmp_path / "p.star", rows, labels=f"{LABELS}{label}\n")
    with pytest.raises(InputError, match=message):
        open_particles(path)


def test_a_dose_in_the_b_factor_is_no_envelope_but_a_real_one_is(tmp_path):
    rows = [f"{row} {b} 0.5" for row, b in zip(star_rows(), [-13, 0, 20, 0, 0, 0], strict=True)]
    labels = f"{LABELS}_rlnCtfBfactor\n_rlnCtfScalefactor\n"
    table = read_table(write_star_31(tmp_path / "p.star", rows, labels=labels))
    assert table.ctf.b_factor_angstrom2.tolist() == [0, 0, 20, 0, 0, 0]
    assert table.ctf.scale.tolist() == [0.5] * 6
    assert any("dose" in note for note in table.notes)


@pytest.mark.parametrize("place", ["a.mrcs", "project/a.mrcs", "project/job/a.mrcs"])
def test_stacks_are_found_beside_the_file_or_above_it(tmp_path, place):
    images = write_mrcs(tmp_path / place)
    source = open_particles(write_star_31(tmp_path / "project" / "job" / "p.star"))
    np.testing.assert_array_equal(source.read(torch.arange(6)).numpy(), images)


@pytest.mark.parametrize("written", ["Extract/job/a.mrcs", "/somewhere/else/a.mrcs"])
def test_root_says_where_relative_paths_start_and_finds_a_moved_stack_by_name(tmp_path, written):
    write_mrcs(tmp_path / "data" / "a.mrcs")
    path = write_star_31(tmp_path / "job" / "p.star", star_rows(stack=written))
    with pytest.raises(InputError, match=r"row 0 .*is not there .*\n.*set data.root"):
        open_particles(path)
    assert open_particles(path, root=tmp_path / "data").table.stacks == (
        tmp_path / "data" / "a.mrcs",
    )


_VALUES = st.sampled_from(
    ["", "0", "-1", "1e999", "nan", "abc", "99999999999999999999@a.mrcs", "1@", "@", "a.mrcs",
     "1@b" + 300 * "x", "'q q'", "#", "\n", "3.5", "_rlnX", "data_particles", "loop_"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 200), value=_VALUES, groups=st.sampled_from([ONE_GROUP, TWO_GROUPS]))
def test_any_one_wrong_word_gives_particles_or_an_input_error(
    tmp_path_factory, place, value, groups
):
    folder = tmp_path_factory.mktemp("fuzz")
    write_mrcs(folder / "a.mrcs")
    path = write_star_31(folder / "p.star", groups=groups)
    words = re.split(r"(\s+)", path.read_text())
    words[place % len(words)] = value
    path.write_text("".join(words))
    try:
        source = open_particles(path)
    except InputError:
        pass
    else:
        assert source.read(torch.arange(len(source.table))).isfinite().all()


# Real files, against what cryoDRGN's parsers made of them.


def test_pfcrt_of_relion_3_0_equals_the_golden_pickles(shared_data):
    folder = shared_data / "real" / "cryodrgn"
    table = read_table(folder / "FinalRefinement-OriginalParticles-PfCRT.star")
    rotation, shift = load_pickle(folder / "pose.star.pkl")
    np.testing.assert_allclose(table.pose.rotation.numpy(), rotation, atol=1e-7)
    np.testing.assert_allclose(table.pose.shift.numpy() / 300, shift, atol=1e-9)
    golden = load_pickle(folder / "ctf1.pkl")
    np.testing.assert_array_equal(ctf_columns(table), golden[:, 2:])
    np.testing.assert_allclose(table.pixel_size_angstrom, golden[:, 1], rtol=1e-6)
    assert "no column _rlnAmplitudeContrast: 0.1 is assumed" in table.notes


def test_homog64_equals_the_golden_pickles(shared_data):
    folder = shared_data / "sim" / "homog64"
    table = open_particles(folder / "first100.star").table
    rotation, shift = load_pickle(folder / "poses.pkl")
    np.testing.assert_allclose(table.pose.rotation.numpy(), rotation[:100], atol=1e-6)
    np.testing.assert_allclose(table.pose.shift.numpy() / 64, shift[:100], atol=1e-7)
    golden = load_pickle(folder / "ctf.pkl")[:100]
    np.testing.assert_allclose(ctf_columns(table), golden[:, 2:], rtol=1e-7)
    np.testing.assert_array_equal(table.pixel_size_angstrom, golden[:, 1])


@pytest.mark.parametrize("name", ["sta_testing.star", "sta_testing_bin8.star"])
def test_the_tilt_series_equals_the_golden_rotations(shared_data, name):
    folder = shared_data / "real" / "cryodrgn"
    table = read_table(folder / name)
    rotation, _ = load_pickle(folder / "sta_pose.pkl")
    np.testing.assert_allclose(table.pose.rotation.numpy(), rotation, atol=1e-7)
    np.testing.assert_array_equal(ctf_columns(table), load_pickle(folder / "sta_ctf.pkl")[:, 2:])
    assert (table.ctf.b_factor_angstrom2 == 0).all()
    assert 0.49 < table.ctf.scale.min() < table.ctf.scale.max() == 1


@pytest.mark.parametrize("name", ["relion31.star", "relion31.v2.star"])
def test_the_order_of_blocks_does_not_matter(shared_data, name):
    source = open_particles(shared_data / "real" / "cryodrgn" / name)
    assert (len(source.table), source.geometry.box_size) == (5, 256)
    assert source.geometry.pixel_size_angstrom == 2.806
    shift = source.table.pose.shift[0] * 2.806
    torch.testing.assert_close(shift, torch.tensor([0.019324, -0.64686]), atol=1e-6, rtol=0)
    assert source.table.ctf.voltage_kilovolts.unique().tolist() == [300]
    assert source.read(torch.arange(5)).std() == pytest.approx(
        1.0, abs=0.05
    )  # RELION normalises images


def test_relion_5_has_as_many_rows_as_its_file(shared_data):
    path = shared_data / "real" / "cryodrgn" / "relion5.star"
    table = read_table(path)
    listed = [line for line in path.read_text().splitlines() if "@toy_images" in line]
    assert len(table) == table.n_rows == len(listed) == 17
    assert (table.box_size, table.pixel_size_angstrom[0]) == (448, 0.89)
    assert table.ctf.voltage_kilovolts.unique().tolist() == [100]
    assert any("_rlnEvenZernike" in note for note in table.notes)


def test_six_optics_groups_are_each_joined_to_their_particles(shared_data):
    path = shared_data / "real" / "cryodrgn" / "relion31.6opticsgroups.star"
    lines = [line.split() for line in path.read_text().splitlines()]
    groups = {int(w[0]): w for w in lines if len(w) > 1 and w[1].startswith("opticsGroup")}
    rows = [w for w in lines if w and w[0].startswith("MotionCorr")]
    table = read_table(path)
    assert (len(table), len(groups)) == (139, 6)
    size = [float(groups[int(w[10])][5]) for w in rows]
    np.testing.assert_array_equal(table.pixel_size_angstrom, size)
    shift = [[float(w[14]), float(w[15])] for w in rows]
    np.testing.assert_allclose(
        table.pose.shift.numpy(), np.array(shift) / np.array(size)[:, None], rtol=1e-6
    )
    spherical = [float(groups[int(w[10])][3]) for w in rows]
    np.testing.assert_allclose(table.ctf.spherical_aberration_mm, spherical, rtol=1e-6)


@pytest.mark.parametrize(("version", "pixel"), [("30", 1.338), ("31", 1.4)])
def test_aspires_samples_are_read_in_spite_of_their_comments_and_tabs(shared_data, version, pixel):
    table = read_table(shared_data / "real" / "aspire" / f"sample_particles_relion{version}.star")
    assert len(table) == 17
    np.testing.assert_allclose(table.pixel_size_angstrom, pixel, rtol=1e-6)
    torch.testing.assert_close(table.ctf.defocus_u_angstrom[0], torch.tensor(21186.804688))
    assert table.pose is not None


def test_pixel_origins_beside_an_optics_table_are_pixels(shared_data):
    table = read_table(shared_data / "real" / "aspire" / "rln_proj_64_shifted.star")
    assert table.pose.shift.tolist() == [[6, 10], [10, -5], [-8, 11], [-13, -3]]
    assert table.ctf is None


def test_one_optics_group_needs_no_column_to_join_by(shared_data):
    table = read_table(shared_data / "real" / "cryodrgn" / "toy_projections_13.star")
    assert len(table) == 13
    assert any("one optics group" in note for note in table.notes)
    assert any("300 pixels" in note for note in table.notes)  # the images have 30
