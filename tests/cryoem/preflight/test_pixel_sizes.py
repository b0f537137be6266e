"""What the files say about the pixel size agrees, or it is said what does not."""

from pathlib import Path

import mrcfile
import pytest
from phantom_particles import PIXEL_SIZE, write_phantom_particles

from cryoem.io.table import read_table
from cryoem.preflight.pixel_sizes import disagreements


@pytest.fixture
def star(tmp_path: Path) -> Path:
    return write_phantom_particles(tmp_path, n=8).star


def set_header(star: Path, size: float) -> None:
    with mrcfile.open(star.with_suffix(".mrcs"), mode="r+") as file:
        file.voxel_size = size


def add_optics(star: Path, label: str, value: float) -> None:
    text = star.read_text()
    text = text.replace("_rlnAmplitudeContrast\n", f"_rlnAmplitudeContrast\n{label}\n", 1)
    star.write_text(text.replace("300.0 2.7 0.1\n", f"300.0 2.7 0.1 {value}\n", 1))


def test_files_that_agree_have_nothing_said_of_them(star: Path) -> None:
    add_optics(star, "_rlnMicrographOriginalPixelSize", PIXEL_SIZE / 4)
    assert disagreements(read_table(star)) == []


def test_a_header_that_says_otherwise_is_named(star: Path) -> None:
    set_header(star, 2 * PIXEL_SIZE)
    (text,) = disagreements(read_table(star))
    assert "particles.mrcs 6 A in place of 3" in text
    assert "_rlnImagePixelSize" in text


@pytest.mark.parametrize("unset", [0.0, 1.0])
def test_a_header_that_says_nothing_is_not_held_against_the_file(star: Path, unset: float) -> None:
    set_header(star, unset)
    assert disagreements(read_table(star)) == []


def test_images_cannot_be_finer_than_their_micrograph(star: Path) -> None:
    add_optics(star, "_rlnMicrographPixelSize", 2 * PIXEL_SIZE)
    (text,) = disagreements(read_table(star))
    assert "_rlnMicrographPixelSize is 6 A, and the images have 3 A" in text
