"""``cryoem preflight``: one page that stands alone, and an answer."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from phantom_particles import PhantomParticles, write_phantom_particles

from cryoem.cli.main import main
from cryoem.io.source import open_particles
from cryoem.io.volume import write_stack


@pytest.fixture
def particles(tmp_path: Path) -> PhantomParticles:
    return write_phantom_particles(tmp_path, n=300, snr=0.3)


def test_the_page_stands_alone_and_says_what_fits(
    particles: PhantomParticles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out" / "page.html"
    page.parent.mkdir()
    assert main(["preflight", str(particles.star), "-o", str(page), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "Particles are light" in shown
    assert "The poses fit the images" in shown
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', text)
    for words in ("rotations transposed", "shifts negated", "without CTF", "poses of other images"):
        assert words in text
    assert "half the pixel size" in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_contradiction_ends_with_2_and_leaves_the_evidence(
    particles: PhantomParticles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    arguments = ["preflight", str(particles.star), "-o", str(page), "--device", "cpu"]
    assert main([*arguments, "--sign", "dark"]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 2
    assert "data.sign=dark, but the particles are light" in message
    assert str(page) in message
    assert "The images contradict what was stated" in page.read_text()


def test_bad_images_are_on_the_page_and_a_selection_without_them_beside_it(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    images = particles.images.numpy()
    images[7, 0, 0] = np.inf
    write_stack(particles.star.with_suffix(".mrcs"), images, 3.0)
    page = tmp_path / "page.html"
    assert main(["preflight", str(particles.star), "-o", str(page), "--device", "cpu"]) == 0
    good = tmp_path / "page_good.npy"
    assert f"data.select={good}" in page.read_text()
    assert "8@" in page.read_text()
    assert len(open_particles(particles.star, select=good).table) == 299


def test_poses_in_the_order_of_other_rows_are_refused(
    particles: PhantomParticles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = np.random.default_rng(0).permutation(300)
    rotation, shift = particles.pose.rotation.numpy(), particles.pose.shift.numpy() / 16
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps((rotation[order], shift[order])))
    page = tmp_path / "page.html"
    arguments = ["--poses", str(tmp_path / "poses.pkl"), "-o", str(page), "--device", "cpu"]
    assert main(["preflight", str(particles.star), *arguments]) == 2
    assert "not those of these images" in capsys.readouterr().err


def test_without_poses_the_page_says_what_was_not_tried(
    particles: PhantomParticles, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    stack = particles.star.with_suffix(".mrcs")
    assert main(["preflight", str(stack), "-o", str(page), "--device", "cpu"]) == 0
    assert "There are no poses" in page.read_text()
