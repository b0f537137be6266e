"""Signals on numbers that are made to trigger them, and on numbers that must not."""

import json

import numpy as np
import pytest

from cryoem import signals
from cryoem.signals import Moves

RNG = np.random.default_rng(0)
N = 800


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, 3))


def directions(n: int = N) -> np.ndarray:
    points = np.random.default_rng(2).normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_a_latent_space_that_turns_stretches_and_shifts_has_not_changed(z: np.ndarray) -> None:
    turned = z @ np.random.default_rng(3).normal(size=(3, 3)) + 5
    assert signals.latent_change(z, turned) < 1e-6


def test_latents_that_move_at_random_by_a_tenth_of_their_spread_have_changed_by_that(
    z: np.ndarray,
) -> None:
    moved = z + 0.1 * RNG.normal(size=z.shape)
    assert signals.latent_change(z, moved) == pytest.approx(0.1, rel=0.1)
    assert signals.latent_change(z, RNG.normal(size=z.shape)) == pytest.approx(1, abs=0.02)


def test_particles_without_a_latent_are_left_out_of_the_change(z: np.ndarray) -> None:
    later = z.copy()
    later[::7] = np.nan
    moves = signals.latent_moves(z, later)
    assert np.isnan(moves[::7]).all()
    assert signals.latent_change(z, later) < 1e-6
    assert np.isnan(signals.latent_change(z, np.full_like(z, np.nan)))


def test_converged_needs_two_quiet_epochs_and_everything_quiet() -> None:
    box = 64  # a degree of rotation moves a point 32 pixels out by half a pixel: 0.9 degrees
    still = Moves(pose_degrees=0.5, shift_pixels=0.1, latents=0.05, volume=0.02)
    for restless in (
        Moves(pose_degrees=1.0, shift_pixels=0.1, latents=0.05, volume=0.02),
        Moves(pose_degrees=0.5, shift_pixels=0.3, latents=0.05, volume=0.02),
        Moves(latents=0.2, volume=0.02),
        Moves(volume=0.1),
    ):
        assert signals.convergence(still, restless, box).level == "note"
        assert signals.convergence(restless, still, box).text.startswith("not converged")
    found = signals.convergence(still, still, box)
    assert found.level == "good"
    assert "poses have turned by 0.5°" in found.text
    assert signals.convergence(Moves(), Moves(), box) is None


def test_a_latent_that_is_the_prior_everywhere_has_collapsed(z: np.ndarray) -> None:
    assert signals.collapse(0.01 * z, kl=0.001).level == "warning"
    assert signals.collapse(z, kl=0.02).level == "warning"  # it varies, but no image is told apart
    found = signals.collapse(z, kl=3.0)
    assert found.level == "good"
    assert "3 of 3" in found.text


def test_active_dimensions_do_not_depend_on_the_axes(z: np.ndarray) -> None:
    flat = z * [1.0, 1.0, 0.01]
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    assert signals.active_dimensions(flat) == signals.active_dimensions(flat @ turn) == 2
    assert signals.active_dimensions(z[:, :1]) == 1


def test_latents_that_follow_view_or_defocus_are_told(z: np.ndarray) -> None:
    seen, defocus = directions(), np.random.default_rng(5).uniform(8e3, 2e4, N)
    signal, told = signals.nuisance(z, seen, defocus)
    assert signal.level == "good"
    assert max(told.values()) < 0.05
    for latents, name in (
        (0.3 * z + seen, "viewing direction"),
        (0.3 * z + (defocus / 3e3)[:, None], "defocus"),
    ):
        signal, told = signals.nuisance(latents, seen, defocus)
        assert signal.level == "warning"
        assert told[name] > 0.4
        assert name in signal.text


def test_few_particles_or_one_defocus_say_nothing(z: np.ndarray) -> None:
    assert signals.nuisance(z[:50], directions(50), None) == (None, {})
    _, told = signals.nuisance(z, directions(), np.full(N, 1e4))
    assert set(told) == {"viewing direction"}


def test_what_explains_no_more_than_chance_is_noise() -> None:
    assert signals.noise(0.05, 0.03, trained_on=False).level == "warning"
    assert signals.noise(0.5, 0.03, trained_on=False).level == "good"
    assert signals.noise(0.8, 0.03, trained_on=True).level == "warning"  # its noise is known
    assert signals.noise(40.0, 3.0, trained_on=True).level == "good"


def test_signals_are_a_file(tmp_path) -> None:
    found = [signals.noise(40.0, 3.0, trained_on=True)]
    signals.write_signals(tmp_path, found)
    (stored,) = json.loads((tmp_path / "signals.json").read_text())
    assert stored["text"] == found[0].text
