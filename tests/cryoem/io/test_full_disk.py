"""A disk that fills up: the error names the file and the way out, and nothing is left behind."""

import errno
import os
import resource
from contextlib import contextmanager

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

from cryoem.errors import InputError
from cryoem.figures.save import save_figure
from cryoem.io.atomic import atomic_path, reserve, writing
from cryoem.io.star_writer import StarTable, write_star
from cryoem.io.volume import write_stack, write_volume
from cryoem.simulate import simulate

# mrcfile leaves a file that it could not flush to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextmanager
def files_up_to(limit):
    """Let no file grow beyond this many bytes; the kernel then refuses as for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_array(path):
    with atomic_path(path) as temporary:
        np.savez(temporary, z=np.zeros(20_000))


def save_table(path):
    with atomic_path(path) as temporary:
        pd.DataFrame({"a": np.arange(20_000)}).to_csv(temporary)


WRITERS = {
    "map.mrc": lambda path: write_volume(path, np.zeros((32, 32, 32), "f4"), 1.0),
    "map.mrc.gz": lambda path: write_volume(
        path, np.random.default_rng(0).normal(size=(32, 32, 32)), 1.0
    ),
    "stack.mrcs": lambda path: write_stack(path, np.zeros((32, 32, 32), "f4"), 1.0),
    "p.star": lambda path: write_star(path, [StarTable("x", ["_a"], [[b"1"]] * 20_000)]),
    "figure.png": lambda path: save_figure(matplotlib.figure.Figure(figsize=(9, 9)), path),
    "latents.npz": save_array,
    "table.csv": save_table,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_does_not_fit_is_named_and_leaves_nothing(tmp_path, name):
    path = tmp_path / name
    with files_up_to(1500), pytest.raises(InputError) as caught:
        WRITERS[name](path)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be written (")
    assert message.endswith("free some space or choose another folder")
    assert not list(tmp_path.iterdir())
    WRITERS[name](path)
    assert path.stat().st_size > 1500


def test_an_older_file_survives_a_full_disk(tmp_path):
    path = tmp_path / "map.mrc"
    path.write_bytes(b"older")
    with files_up_to(1500), pytest.raises(InputError):
        WRITERS["map.mrc"](path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_is_appended_to_a_full_disk_is_an_input_error(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(bytes(1000))
    with files_up_to(1000), pytest.raises(InputError, match=r"metrics\.csv: cannot be written"):
        with writing(path), path.open("ab") as file:
            file.write(b"line")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_errors_of_the_disk_say_what_they_are(tmp_path, number):
    with pytest.raises(InputError, match=rf"cannot be written \({os.strerror(number)}\)"):
        with atomic_path(tmp_path / "x"):
            raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        (tmp_path / "absent").read_bytes()


@pytest.mark.parametrize("place", ["file/x.mrc", "folder"])
def test_a_place_where_no_file_can_be_is_said_so(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot be written .*; choose another folder"):
        WRITERS["map.mrc"](tmp_path / place)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_reserved_file_has_its_room_before_it_is_mapped(tmp_path):
    path = tmp_path / "scratch"
    with files_up_to(10_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        reserve(path, 20_000)
    reserve(path, 20_000)
    assert path.stat().st_size == 20_000
    if hasattr(os, "posix_fallocate"):
        assert 512 * path.stat().st_blocks >= 20_000


@pytest.mark.parametrize("limit", [2_000, 51_000, 51_500])
def test_a_simulation_that_does_not_fit_leaves_nothing(tmp_path, limit):
    """The images are written through maps of files: no signal may end the process."""
    with files_up_to(limit), pytest.raises(InputError, match=r"data.*: cannot be written"):
        simulate(tmp_path / "data", n_particles=50, box_size=16, pixel_size_angstrom=14.0)
    assert not list(tmp_path.iterdir())
