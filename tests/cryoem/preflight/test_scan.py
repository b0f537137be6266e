"""Bad images are listed by row and file, and left out only when asked."""

from pathlib import Path

import numpy as np
import pytest
from phantom_particles import write_phantom_particles

from cryoem.io.source import StackSource, open_particles
from cryoem.io.volume import write_stack
from cryoem.preflight.images import scan_images, write_good_rows

N = 96


@pytest.fixture
def spoiled(tmp_path: Path) -> StackSource:
    """Particles of which five are bad, each in its own way."""
    particles = write_phantom_particles(tmp_path, n=N)
    images = particles.images.numpy()
    images[5, 3, 3] = np.nan
    images[17] = 0.25
    images[40] *= 30
    images[77, 8, 8] += 1e4
    images[81, 1, 1] = -1e30
    write_stack(tmp_path / "particles.mrcs", images, 3.0)
    return open_particles(particles.star)


def test_every_kind_of_bad_image_is_found_and_no_other(spoiled: StackSource) -> None:
    scan = scan_images(spoiled)
    assert [image.row for image in scan.bad] == [5, 17, 40, 77, 81]
    nan, flat, loud, _, huge = (image.reason for image in scan.bad)
    assert "not finite" in nan
    assert "the same value" in flat
    assert "more than 1e+12" in huge
    assert "an outlying contrast (+" in loud
    assert {image.stack.name for image in scan.bad} == {"particles.mrcs"}
    assert [image.frame for image in scan.bad] == [6, 18, 41, 78, 82]
    assert len(scan.usable) == N - 5
    assert not {5, 17, 40, 77, 81} & set(scan.usable.tolist())


def test_the_good_rows_are_a_selection_that_opens(spoiled: StackSource, tmp_path: Path) -> None:
    write_good_rows(scan_images(spoiled), spoiled.table, tmp_path / "good.npy")
    chosen = open_particles(spoiled.table.path, select=tmp_path / "good.npy")
    assert len(chosen.table) == N - 5
    assert scan_images(chosen).bad == []


def test_rows_are_those_of_the_file_after_a_selection(spoiled: StackSource, tmp_path: Path) -> None:
    rows = np.arange(30, N)
    np.save(tmp_path / "rows.npy", rows)
    scan = scan_images(open_particles(spoiled.table.path, select=tmp_path / "rows.npy"))
    assert [image.row for image in scan.bad] == [40, 77, 81]


def test_a_sample_covers_both_ends_of_the_file(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=1000)
    scan = scan_images(open_particles(particles.star), most=256)
    rows = scan.looked_at
    assert len(rows.unique()) == len(rows) <= 256
    assert (int(rows[0]), int(rows[-1])) == (0, 999)


@pytest.mark.parametrize(
    "file", ["sim/homog64/first100.star", "real/cryodrgn/hand.mrcs", "real/cryodrgn/relion31.star"]
)
def test_nothing_is_wrong_with_good_images(shared_data: Path, file: str) -> None:
    assert scan_images(open_particles(shared_data / file)).bad == []
