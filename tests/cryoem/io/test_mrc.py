import copy
import pickle
import struct

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrc_stacks import mrc_bytes, write_mrcs

from cryoem.errors import InputError
from cryoem.io.mrc import read_mrc_header
from cryoem.io.stack_reader import StackReader


def read_all(path):
    header = read_mrc_header(path)
    frames = np.arange(header.n_images)
    return StackReader([header]).read(np.zeros_like(frames), frames)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "i2", "f4", "u2", "f2"])
def test_every_mode_is_read_in_both_byte_orders(tmp_path, kind, order):
    images = write_mrcs(tmp_path / "a.mrcs", kind=kind, order=order, extended=b"x" * 80)
    header = read_mrc_header(tmp_path / "a.mrcs")
    assert header.pixel_size_angstrom == pytest.approx(2.0)
    np.testing.assert_array_equal(read_all(tmp_path / "a.mrcs"), images)


@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"\x44\x41\0\0", b"\x11\x11\0\0", b"junk"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_missing_or_wrong_machine_stamp_does_not_matter(tmp_path, stamp, order):
    images = write_mrcs(tmp_path / "a.mrcs", stamp=stamp, order=order)
    np.testing.assert_array_equal(read_all(tmp_path / "a.mrcs"), images)


def test_mode_0_is_signed(tmp_path):
    values = np.full((1, 8, 8), -3, dtype="i1")
    (tmp_path / "a.mrcs").write_bytes(mrc_bytes(values))
    assert (read_all(tmp_path / "a.mrcs") == -3).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16, np.uint16, np.int8])
def test_stacks_written_by_mrcfile_read_the_same(tmp_path, dtype):
    values = np.random.default_rng(1).integers(0, 99, size=(3, 8, 8)).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrcs", values) as mrc:
        mrc.voxel_size = 1.25
    assert read_mrc_header(tmp_path / "a.mrcs").pixel_size_angstrom == pytest.approx(1.25)
    np.testing.assert_array_equal(read_all(tmp_path / "a.mrcs"), values.astype(np.float32))


def test_images_of_many_stacks_come_in_the_order_asked_for(tmp_path):
    stacks = [write_mrcs(tmp_path / f"{k}.mrcs", n=5, kind=kind, seed=k)
              for k, kind in enumerate(["f4", "i2", "f2"])]  # fmt: skip
    reader = StackReader([read_mrc_header(tmp_path / f"{k}.mrcs") for k in range(3)])
    rng = np.random.default_rng(0)
    stack, frame = rng.integers(0, 3, 40), rng.integers(0, 5, 40)  # with repetitions
    expected = np.stack([stacks[s][f] for s, f in zip(stack, frame, strict=True)])
    np.testing.assert_array_equal(reader.read(stack, frame), expected)
    travelled = pickle.loads(pickle.dumps(reader))  # to a worker process
    np.testing.assert_array_equal(travelled.read(stack, frame), expected)
    assert reader.read(stack[:0], frame[:0]).shape == (0, 8, 8)


def test_more_stacks_than_open_files_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr("cryoem.io.stack_reader._MAX_OPEN", 2)
    images = [write_mrcs(tmp_path / f"{k}.mrcs", n=1, seed=k) for k in range(7)]
    reader = StackReader([read_mrc_header(tmp_path / f"{k}.mrcs") for k in range(7)])
    order = np.array([6, 0, 5, 1, 4, 2, 3])
    got = reader.read(order, np.zeros(7, dtype=int))
    np.testing.assert_array_equal(got, np.concatenate([images[k] for k in order]))
    assert len(reader._open) <= 2


def test_a_truncated_stack_names_the_file_and_both_sizes(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    content = (tmp_path / "a.mrcs").read_bytes()
    (tmp_path / "a.mrcs").write_bytes(content[:-100])
    with pytest.raises(
        InputError, match=rf"a\.mrcs: truncated.*{len(content)}.*{len(content) - 100}"
    ):
        read_mrc_header(tmp_path / "a.mrcs")


def test_a_stack_cut_after_it_was_opened_is_an_input_error(tmp_path):
    write_mrcs(tmp_path / "a.mrcs")
    reader = StackReader([read_mrc_header(tmp_path / "a.mrcs")])
    (tmp_path / "a.mrcs").write_bytes((tmp_path / "a.mrcs").read_bytes()[:-100])
    with pytest.raises(InputError, match="has become shorter"):
        reader.read(np.zeros(6, dtype=int), np.arange(6))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(12, 4, "mode 4 is not supported"), (92, -8, "corrupt"), (0, 0, "not an MRC file")],
)
def test_headers_that_make_no_sense_are_refused(tmp_path, offset, value, message):
    write_mrcs(tmp_path / "a.mrcs")
    content = bytearray((tmp_path / "a.mrcs").read_bytes())
    content[offset : offset + 4] = struct.pack("<i", value)
    (tmp_path / "a.mrcs").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_mrc_header(tmp_path / "a.mrcs")


@pytest.mark.parametrize("cell", [0.0, -5.0, float("nan"), float("inf"), 1e30])
def test_a_senseless_cell_is_no_pixel_size(tmp_path, cell):
    content = bytearray(mrc_bytes(np.zeros((1, 8, 8), "f4")))
    content[40:44] = struct.pack("<f", cell)
    (tmp_path / "a.mrcs").write_bytes(content)
    assert read_mrc_header(tmp_path / "a.mrcs").pixel_size_angstrom is None


_TEMPLATE = mrc_bytes(np.zeros((2, 8, 8), "f4"))


@settings(max_examples=300, deadline=None)
@given(
    patches=st.lists(st.tuples(st.integers(0, 223), st.binary(min_size=1, max_size=4)), max_size=4),
    length=st.integers(0, len(_TEMPLATE)) | st.just(len(_TEMPLATE)),
)
def test_a_damaged_header_gives_a_header_or_an_input_error(tmp_path_factory, patches, length):
    content = bytearray(_TEMPLATE)
    for offset, patch in patches:
        content[offset : offset + len(patch)] = patch
    path = tmp_path_factory.mktemp("mrc") / "a.mrcs"
    path.write_bytes(copy.copy(content[:length]))
    try:
        header = read_mrc_header(path)
    except InputError:
        pass
    else:
        assert header.data_offset + header.n_images * header.image_bytes <= length
