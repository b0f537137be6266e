"""Readers under arbitrary input: data or an ``InputError``, memory in proportion to the file."""

import gzip
import pickle
import struct
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mrc_stacks import mrc_bytes, write_mrcs
from particle_files import CS_FIELDS, CS_POSES, cs_blobs, write_cs

from cryoem.errors import InputError
from cryoem.io.cryodrgn import read_ctf_pickle, read_pose_pickle
from cryoem.io.cryosparc import read_cs
from cryoem.io.mrc import read_mrc_header
from cryoem.io.pickles import load_pickle
from cryoem.io.source import open_particles
from cryoem.io.star import read_star
from cryoem.io.table import read_table
from cryoem.io.volume import read_volume

MEGABYTES = 1 << 20


@contextmanager
def memory_below(limit):
    """Fail if the block holds more than ``limit`` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@contextmanager
def data_or_refusal():
    """Let what is right through, and check that a refusal is one or two lines that name a file."""
    refusal = "fine"
    try:
        yield
    except InputError as error:
        refusal = str(error)
    assert 1 <= len(refusal.splitlines()) <= 2
    assert len(refusal) < 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples; each writes its own files over those of the last."""
    folder = tmp_path_factory.mktemp("fuzz")
    write_mrcs(folder / "a.mrcs")
    return folder


# MRC

_SIZES = st.sampled_from([0, 1, 8, 64, 1 << 15, 1 << 20, (1 << 31) - 1, -1, -(1 << 31)])


@settings(max_examples=200)
@given(sizes=st.tuples(*4 * [_SIZES]), extended=_SIZES, order=st.sampled_from("<>"))
def test_a_header_that_claims_terabytes_costs_no_memory(folder, sizes, extended, order):
    content = bytearray(mrc_bytes(np.zeros((2, 8, 8), "f4"), order=order))
    content[:16] = struct.pack(order + "4i", *sizes)
    content[92:96] = struct.pack(order + "i", extended)
    path = folder / "claims.mrcs"
    path.write_bytes(content)
    with memory_below(4 * MEGABYTES), data_or_refusal():
        header = read_mrc_header(path)
        assert header.data_offset + header.n_images * header.image_bytes <= len(content)
        read_table(path)


# STAR

_LABELS = ["_rlnImageName", "_rlnOpticsGroup", "_rlnImageSize", "_rlnAngleRot", "_rlnAngleTilt",
           "_rlnAnglePsi", "_rlnOriginX", "_rlnOriginY", "_rlnDefocusU", "_rlnDefocusV",
           "_rlnDefocusAngle", "_rlnVoltage", "_rlnSphericalAberration", "_rlnImagePixelSize",
           "_rlnRandomSubset", "_rlnEvenZernike", "_rlnMagMat00", "_rlnOther"]  # fmt: skip
_WORDS = st.sampled_from(
    ["1@a.mrcs", "2@a.mrcs", "a.mrcs", "0@a.mrcs", "1@../../etc/passwd", "1@/dev/zero", "1@.", "@",
     "0", "1", "2", "-1", "8", "300", "1e30", "1e308", "-1e999", "nan", "[1,2]", "[]", "'a b'",
     "''", "#", "_rlnX", "data_", "loop_", "\u0663", "1_0", "0x10"]
)  # fmt: skip


@st.composite
def _tables(draw):
    labels = draw(st.lists(st.sampled_from(_LABELS), min_size=1, max_size=8))
    row = st.lists(_WORDS, min_size=len(labels), max_size=len(labels))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    name = draw(st.sampled_from(["", "particles", "optics", "general"]))
    return ends.join([f"data_{name}", "loop_", *labels, *(" ".join(row) for row in rows), ""])


@settings(max_examples=400)
@given(tables=st.lists(_tables(), min_size=1, max_size=3), end=st.integers(0, 400))
def test_any_star_file_gives_particles_or_a_refusal(folder, tables, end):
    content = "\n".join(tables).encode()
    path = folder / "any.star"
    path.write_bytes(content[:-end] if end < len(content) // 2 and end else content)
    with data_or_refusal():
        table = read_table(path)
        assert len(table) == table.n_rows == read_particles(path)
        if table.pose is not None:
            assert table.pose.rotation.isfinite().all()
            assert table.pose.shift.isfinite().all()
        if table.ctf is not None:
            assert all(value.isfinite().all() for value in vars(table.ctf).values())
    with data_or_refusal():
        source = open_particles(path)
        assert source.read(torch.arange(len(source.table))).isfinite().all()


def read_particles(path):
    """Rows of the block of particles, counted by the words of its lines."""
    blocks = [block for block in read_star(path) if "_rlnImageName" in block]
    chosen = next((block for block in blocks if block.name == "particles"), blocks[0])
    return sum(1 for _ in chosen.raw_rows(range(chosen.n_rows)))


def test_many_labels_and_long_lines_take_time_in_proportion(folder):
    path = folder / "long.star"
    labels = "".join(f"_c{k}\n" for k in range(50_000))
    path.write_text("data_\nloop_\n" + labels + " ".join(["1"] * 50_000) + "\n")
    with memory_below(300 * MEGABYTES):
        assert read_star(path)[0].n_rows == 1


# CS

_TYPES = st.sampled_from(
    ["<u8", "<u4", ">u4", "<i8", "<f4", "<f8", "?", "S8", "U4", "<c8", "<M8[s]", "V3",
     ("<f4", (2,)), ("<f4", (3,)), ("<u4", (2,)), ("<f4", (0,)), ("<f4", (4,))]
)  # fmt: skip


@st.composite
def _cs_tables(draw):
    fields = {each[0]: each[1] if len(each) == 2 else each[1:] for each in CS_FIELDS + CS_POSES}
    fields |= {"ctf/df1_A": "<f4", "ctf/tilt_A": ("<f4", (2,)), "ctf/type": "S8"}
    for name in draw(st.sets(st.sampled_from(sorted(fields)), max_size=3)):
        fields[name] = draw(_TYPES)
    for name in draw(st.sets(st.sampled_from(sorted(fields)), max_size=3)):
        del fields[name]
    dtype = np.dtype([(k, v) if isinstance(v, str) else (k, *v) for k, v in fields.items()])
    n = draw(st.integers(0, 4))
    content = draw(st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize))
    table = np.frombuffer(content, dtype).copy()
    if draw(st.booleans()):
        good = cs_blobs(n) if n else cs_blobs(1)[:0]
        for name in good.dtype.names:
            if name in fields and dtype[name] == good.dtype[name]:
                table[name] = good[name]
    return table


@settings(max_examples=300)
@given(table=_cs_tables(), other=st.none() | _cs_tables())
def test_any_cs_table_gives_particles_or_a_refusal(folder, table, other):
    path = write_cs(folder / "any.cs", table)
    passthrough = None if other is None else write_cs(folder / "other.cs", other)
    with data_or_refusal():
        read = read_table(path, passthrough=passthrough)
        assert len(read) == len(table)
        if read.pose is not None:
            assert read.pose.rotation.isfinite().all()
            assert read.pose.shift.isfinite().all()
    with data_or_refusal():
        open_particles(path, passthrough=passthrough)


@settings(max_examples=200)
@given(
    patches=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=4)), max_size=4),
    length=st.none() | st.integers(0, 800),
)
def test_a_damaged_cs_file_gives_rows_or_a_refusal(folder, patches, length):
    path = write_cs(folder / "damaged.cs", cs_blobs())
    content = bytearray(path.read_bytes())
    for place, patch in patches:
        content[place : place + len(patch)] = patch
    path.write_bytes(content[:length])
    with memory_below(8 * MEGABYTES), data_or_refusal():
        read_table(path)


@pytest.mark.parametrize("shape", ["1000000000000,", "9999999999999999999999,", "-5,", "1e9,"])
def test_a_cs_header_that_claims_terabytes_costs_no_memory(folder, shape):
    path = folder / "claims.cs"
    header = f"{{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': ({shape})}}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80))
    with memory_below(4 * MEGABYTES), pytest.raises(InputError, match=r"claims\.cs: (trunc|not a)"):
        read_cs(path)


# Pickles

_NUMBERS = st.sampled_from([0, 1, -1, 2.5, 1e300, float("nan"), True, None, 2**70])
_ARRAYS = st.builds(
    lambda shape, kind: np.ones(shape, kind),
    st.sampled_from([(), (0,), (3,), (2, 9), (2, 3, 3), (2, 2), (0, 3, 3), (1, 1, 1, 1)]),
    st.sampled_from(["f8", ">f4", "i8", "u1", "?", "c16", "S4", "U2", "f2"]),
)
_CONTENT = st.recursive(
    _NUMBERS | _ARRAYS | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 3), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(content=_CONTENT, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_pickle_of_plain_things_gives_poses_or_a_refusal(folder, content, protocol):
    path = folder / "any.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    rows = read_table(folder / "a.mrcs")
    for read in (
        load_pickle,
        read_pose_pickle,
        read_ctf_pickle,
        lambda path: read_table(folder / "a.mrcs", select=path),
        lambda path: read_table(folder / "a.mrcs", poses=path, ctf=path),
    ):
        with data_or_refusal():
            read(path)
    assert len(rows) == 6


_OPCODES = st.sampled_from(
    [b"(", b".", b"0", b"1", b"2", b"]", b")", b"}", b"a", b"e", b"s", b"u", b"t", b"l", b"d",
     b"q\0", b"h\0", b"r\xff\xff\xff\x7f", b"K\x05", b"M\0\1", b"J\0\0\0\x7f", b"p0\n", b"g0\n",
     b"\x80\4", b"\x85", b"\x86", b"\x87", b"\x88", b"\x8a\1\5", b"\x8b\xff\xff\xff\x7f",
     b"\x8c\1a", b"\x8d" + b"\xff" * 7 + b"\0", b"\x8e" + b"\0\0\0\0\xff\0\0\0", b"\x8f", b"\x90",
     b"\x93", b"\x94", b"\x95" + b"\xff" * 7 + b"\0", b"\x96" + b"\0\0\0\0\xff\0\0\0", b"R", b"b",
     b"\x81", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n",
     b"cnumpy.core.numeric\n_frombuffer\n", b"cnumpy.core.multiarray\nscalar\n",
     b"c_codecs\nencode\n", b"cbuiltins\nbytes\n", b"cbuiltins\nlist\n", b"Vf8\n", b"Vlatin1\n",
     b"I1000000000000\n", b"U\5abcde", b"B\5\0\0\0abcde"]
)  # fmt: skip


@settings(max_examples=500)
@given(program=st.lists(_OPCODES, max_size=40).map(b"".join))
def test_any_pickle_program_gives_data_or_a_refusal_and_stays_small(folder, program):
    path = folder / "program.pkl"
    path.write_bytes(program + b".")
    with memory_below(4 * MEGABYTES), data_or_refusal():
        load_pickle(path)


_LAUGHS = b"\x80\x02]q\x00" + b"".join(
    b"]q" + bytes([k + 1]) + b"(h" + bytes([k]) + b"h" + bytes([k]) + b"e" for k in range(60)
)
_SIZE = struct.pack("<Q", 10**12)


@pytest.mark.parametrize(
    "program",
    {
        "a list of lists of the same lists": _LAUGHS,
        "a list in itself": b"\x80\x02]q\x00h\x00a",
        "lists as deep as the file is long": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999,
        "a place in the memo far away": b"\x80\x02]r\xff\xff\xff\x7f",
        "the same in text": b"]p4000000000\n",
        "a long bytearray": b"\x80\x05\x96" + _SIZE + b"abc",
        "long bytes": b"\x80\x04\x8e" + _SIZE + b"abc",
        "a long frame": b"\x80\x04\x95" + _SIZE + b"K\x01",
        "bytes made by their length": b"cbuiltins\nbytes\n(I1000000000000\ntR",
        "a bytearray made by its length": b"cbuiltins\nbytearray\n(I1000000000000\ntR",
    }.values(),
)
def test_a_pickle_that_would_fill_the_memory_is_refused(folder, program):
    path = folder / "bomb.pkl"
    path.write_bytes(program + b".")
    with memory_below(32 * MEGABYTES), pytest.raises(InputError, match=r"bomb\.pkl: "):
        load_pickle(path)


@settings(max_examples=100)
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["npy", "npz", "pkl", "star", "cs"]))
def test_any_bytes_as_a_selection_give_rows_or_a_refusal(folder, content, suffix):
    path = folder / f"any.{suffix}"
    path.write_bytes((b"\x93NUMPY\x01\x00" if suffix == "npy" else b"") + content)
    with memory_below(8 * MEGABYTES), data_or_refusal():
        read_table(folder / "a.mrcs", select=path)


def test_a_selection_that_is_small_only_as_long_as_it_is_packed_is_refused(folder):
    np.savez_compressed(folder / "bomb.npz", index=np.zeros(20 * MEGABYTES, "u1"))
    with memory_below(4 * MEGABYTES), pytest.raises(InputError, match="array 'index' has 20971"):
        read_table(folder / "a.mrcs", select=folder / "bomb.npz")


@settings(max_examples=150)
@given(sizes=st.tuples(*3 * [_SIZES]), packed=st.booleans())
def test_a_map_that_claims_terabytes_costs_no_memory(folder, sizes, packed):
    content = bytearray(mrc_bytes(np.zeros((8, 8, 8), "f4")))
    content[:12] = struct.pack("<3i", *sizes)
    path = folder / ("map.mrc.gz" if packed else "map.mrc")
    path.write_bytes(gzip.compress(content) if packed else content)
    with memory_below(8 * MEGABYTES), data_or_refusal():
        volume, _ = read_volume(path)
        assert 0 < volume.size <= 512


@settings(max_examples=100)
@given(place=st.integers(0, 120), value=st.integers(0, 255), length=st.none() | st.integers(0, 120))
def test_a_damaged_packed_map_is_a_map_or_a_refusal(folder, place, value, length):
    content = bytearray(gzip.compress(mrc_bytes(np.arange(512, dtype="f4").reshape(8, 8, 8))))
    content[place % len(content)] = value
    (folder / "damaged.mrc.gz").write_bytes(content[:length])
    with memory_below(8 * MEGABYTES), data_or_refusal():
        read_volume(folder / "damaged.mrc.gz")
