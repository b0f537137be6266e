import struct

import mrcfile
import numpy as np
import pytest
import torch

from cryoem.errors import InputError
from cryoem.io.source import open_particles
from cryoem.io.volume import read_volume, write_stack, write_volume

VOLUME = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("f4")


@pytest.mark.parametrize("name", ["map.mrc", "map.mrc.gz", "map.map"])
def test_a_map_comes_back_with_its_voxel_size_and_is_valid(tmp_path, name):
    write_volume(tmp_path / name, VOLUME, 1.75)
    volume, voxel = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume, VOLUME)
    assert voxel == pytest.approx(1.75)
    assert mrcfile.validate(tmp_path / name)
    assert (tmp_path / name).read_bytes()[:2] == (
        b"\x1f\x8b" if name.endswith("gz") else struct.pack("<h", 8)
    )


def test_maps_of_the_shared_data_are_read_cubes_or_not(shared_data):
    for name, shape, voxel in [
        ("real/cryodrgn/50S-vol.mrc", (128, 32, 32), 4.0),
        ("real/cryodrgn/spike-vol.mrc", (128, 16, 16), 8.0),
        ("real/aspire/clean70SRibosome_vol_65p.mrc", (65, 65, 65), 1.0),
        ("sim/homog64/truth.mrc", (64, 64, 64), 5.0),
        ("sim/hetero64/truth/conf_00.mrc", (64, 64, 64), 4.0),
    ]:
        volume, size = read_volume(shared_data / name)
        assert (volume.shape, volume.dtype) == (shape, np.float32)
        assert size == pytest.approx(voxel)


def test_a_map_whose_stamp_is_missing_is_read_all_the_same(tmp_path):
    write_volume(tmp_path / "map.mrc", VOLUME, 1.0)
    content = bytearray((tmp_path / "map.mrc").read_bytes())
    content[208:216] = bytes(8)
    (tmp_path / "map.mrc").write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path / "map.mrc")[0], VOLUME)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (64, struct.pack("<3i", 3, 2, 1), "axes are in the order"),
        (40, struct.pack("<3f", 8.0, 12.0, 4.0), "voxels are not cubes"),
        (12, struct.pack("<i", 99), "not a readable map"),
        (0, struct.pack("<i", 1000), "not a readable map"),
        (8, struct.pack("<i", -3), "not a readable map"),
    ],
)
def test_maps_that_cannot_be_right_are_refused(tmp_path, offset, value, message):
    write_volume(tmp_path / "map.mrc", VOLUME, 1.0)
    content = bytearray((tmp_path / "map.mrc").read_bytes())
    content[offset : offset + len(value)] = value
    (tmp_path / "map.mrc").write_bytes(content)
    with pytest.raises(InputError, match=rf"map\.mrc: {message}"):
        read_volume(tmp_path / "map.mrc")


@pytest.mark.parametrize("content", [None, b"", b"junk", b"\x1f\x8bjunk"])
def test_what_is_no_map_is_said_so(tmp_path, content):
    if content is not None:
        (tmp_path / "map.mrc").write_bytes(content)
    with pytest.raises(InputError, match=r"map\.mrc: not a readable map"):
        read_volume(tmp_path / "map.mrc")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_stack_is_written_piece_by_piece(tmp_path, dtype):
    images = np.random.default_rng(1).integers(-9, 9, size=(7, 8, 8)).astype("f4")
    pieces = iter([images[0], images[1:4], images[4:]])
    assert write_stack(tmp_path / "a.mrcs", pieces, 1.5, dtype) == 7
    source = open_particles(tmp_path / "a.mrcs")
    np.testing.assert_array_equal(source.read(torch.arange(7)), images)
    assert source.geometry.pixel_size_angstrom == 1.5
    assert mrcfile.validate(tmp_path / "a.mrcs")
    with mrcfile.open(tmp_path / "a.mrcs") as mrc:
        assert mrc.is_image_stack()
        assert mrc.data.dtype == dtype


def test_a_cubic_stack_of_ours_is_not_taken_for_a_volume(tmp_path):
    write_stack(tmp_path / "a.mrcs", np.ones((8, 8, 8), dtype="f4"), 1.0)
    assert len(open_particles(tmp_path / "a.mrcs").table) == 8


def test_a_stack_that_fails_half_way_leaves_nothing(tmp_path):
    def pieces():
        yield np.zeros((8, 8))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stack(tmp_path / "a.mrcs", pieces(), 1.0)
    assert list(tmp_path.iterdir()) == []
