"""What the numbers of a training mean: converged, collapsed, led astray, too noisy.

Each function looks at plain numbers and returns a :class:`Signal`, a sentence that a person can act
on, or None where nothing can be said yet.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from cryoem.io.atomic import atomic_path
from cryoem.metrics.latents import knn_r2

Level = Literal["good", "note", "warning"]

# Half a pixel at the rim of a particle that fills half of the box, over D pixels: 1 / D.
_STILL_RADIANS_TIMES_BOX = 1.0
_STILL_PIXELS = 0.25
_STILL_LATENTS, _STILL_VOLUME = 0.1, 0.05
_ACTIVE_VARIANCE = 0.01  # of the mean latents; the prior's is 1 (Burda et al., ICLR 2016)
_COLLAPSED_NATS = 0.1
_NUISANCE_R2 = 0.15
_MOST_NEIGHBOURS = 1000  # particles for the neighbour search
_CHANCE_ERRORS = 3.0  # standard errors
# Nats of an image by which a model knows the noise of the images it was trained on: 0.8 were found
# for 800 images of pure noise, 32 pixels, and the default model; more images give less.
_OPTIMISM = 2.0


@dataclass(frozen=True)
class Signal:
    """One finding: which, how bad, and the sentence for the log and the report."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Moves:
    """Since the last epoch; None where there is nothing that moves, or nothing to compare with.

    Attributes
    ----------
    pose_degrees, shift_pixels
        Medians over the particles.
    latents
        :func:`latent_change`.
    volume
        Root mean square of the change of the mean volume, over that of the volume.
    """

    pose_degrees: float | None = None
    shift_pixels: float | None = None
    latents: float | None = None
    volume: float | None = None


def convergence(moves: Moves, before: Moves, box_size: int) -> Signal | None:
    """Whether everything that can move has stopped, in two epochs running.

    Poses: when a point half way to the edge of the box moves by less than half a pixel, and shifts
    by less than a quarter. Latents: a tenth of their spread. The volume: a twentieth of its size.
    """
    said = _said(moves)
    if not said:
        return None
    if _is_still(moves, box_size) and _is_still(before, box_size):
        return Signal("converged", "good", f"converged: since the last epoch {said}")
    return Signal("converged", "note", f"not converged: since the last epoch {said}")


def collapse(z: Float[np.ndarray, "particle latent"], kl: float) -> Signal:
    """Whether the latents still say anything.

    Parameters
    ----------
    z
        Mean latents.
    kl
        Mean KL divergence to the prior, nats.

    Notes
    -----
    A direction is active where the mean latents vary by more than a hundredth of the prior's
    variance: eigenvalues of their covariance, so that a rotation of the latents changes nothing.
    """
    n_active, n = active_dimensions(z), z.shape[1]
    said = f"{n_active} of {n} latent dimensions are in use, KL {kl:.2g} nats an image"
    if n_active == 0 or kl < _COLLAPSED_NATS:
        advice = "all images get the same volume; lower model.beta, or there is one structure only"
        return Signal("collapsed latent", "warning", f"collapsed latent: {said}; {advice}")
    return Signal("collapsed latent", "good", said)


def active_dimensions(z: Float[np.ndarray, "particle latent"]) -> int:
    """Directions in which mean latents vary."""
    covariance = np.atleast_2d(np.cov(z.T))
    return int((np.linalg.eigvalsh(covariance) > _ACTIVE_VARIANCE).sum())


def latent_change(
    before: Float[np.ndarray, "particle latent"], now: Float[np.ndarray, "particle latent"]
) -> float:
    """Root mean square move of the latents over their spread, 0 to 1.

    Of what the best affine map from the old to the new ones leaves over: a latent space that only
    turns or grows has not changed. Particles with a NaN in either are left out; NaN if too few.
    """
    moves = latent_moves(before, now)
    known = moves[np.isfinite(moves)]
    return float(np.sqrt(np.square(known).mean())) if len(known) else float("nan")


def latent_moves(
    before: Float[np.ndarray, "particle latent"], now: Float[np.ndarray, "particle latent"]
) -> Float[np.ndarray, " particle"]:
    """Length of each particle's move in the sense of :func:`latent_change`, over the spread."""
    known = np.isfinite(before).all(axis=1) & np.isfinite(now).all(axis=1)
    moves = np.full(len(now), np.nan)
    if known.sum() >= 10 * (now.shape[1] + 1):
        spread = np.sqrt(np.square(now[known] - now[known].mean(0)).sum(1).mean())
        left = np.linalg.norm(_left_over(before[known], now[known]), axis=1)
        moves[known] = left / max(spread, 1e-15)
    return moves


def nuisance(
    z: Float[np.ndarray, "particle latent"],
    direction: Float[np.ndarray, "particle 3"],
    defocus: Float[np.ndarray, " particle"] | None,
) -> tuple[Signal | None, dict[str, float]]:
    """Whether latents tell what they should not: from where a particle is seen, or its defocus.

    Returns
    -------
    Signal, numbers
        And the share of the variance of either that 15 neighbours in the latent space tell
        (:func:`cryoem.metrics.latents.knn_r2`), of a thousand particles at most.
    """
    rows = np.flatnonzero(np.isfinite(z).all(axis=1))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_NEIGHBOURS)).astype(int)]
    if len(rows) < 100:
        return None, {}
    told = {"viewing direction": knn_r2(z[rows], direction[rows])}
    if defocus is not None and np.ptp(defocus[rows]) > 0:
        told["defocus"] = knn_r2(z[rows], defocus[rows])
    said = " and ".join(f"{name} with R² {max(r2, 0.0):.2f}" for name, r2 in told.items())
    if max(told.values()) < _NUISANCE_R2:
        text = f"neighbours in the latent space tell {said}: next to nothing, as it should be"
        return Signal("nuisance in the latent", "good", text), told
    text = (
        f"nuisance in the latent: neighbours tell {said}; part of what the volumes show is not "
        "in the molecule. See the coloured latents; raise model.beta, or look at poses and CTF"
    )
    return Signal("nuisance in the latent", "warning", text), told


def noise(nats: float, standard_error: float, trained_on: bool) -> Signal:
    """Whether the volume explains anything of images, beyond what chance would.

    Parameters
    ----------
    nats, standard_error
        Explained of an image, its mean over some images, and how well that is known.
    trained_on
        Whether the model has seen these images, and may have learnt their noise.
    """
    said = f"the volume explains {nats:.3g} ± {standard_error:.2g} nats of an image"
    if nats > max(_CHANCE_ERRORS * standard_error, _OPTIMISM * trained_on):
        return Signal("too noisy", "good", said)
    advice = "no more than chance: the images are too noisy or too few, or data.sign, poses or "
    return Signal("too noisy", "warning", f"too noisy: {said}, {advice}CTF are wrong")


def suspicious(n: int, n_particles: int) -> Signal | None:
    """How many particles lie outside of the rest."""
    if not n:
        return None
    level: Level = "warning" if n > 0.05 * n_particles else "note"
    text = f"{n:,} of {n_particles:,} particles are suspicious: see suspicious.csv"
    return Signal("suspicious particles", level, text)


def write_signals(folder: Path, signals: list[Signal]) -> None:
    """Write ``signals.json``."""
    with atomic_path(folder / "signals.json") as path:
        path.write_text(json.dumps([asdict(signal) for signal in signals], indent=2) + "\n")


def _left_over(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    design = np.column_stack([before, np.ones(len(before))]).astype(np.float64)
    fit, *_ = np.linalg.lstsq(design, now.astype(np.float64), rcond=None)
    return now - design @ fit


def _is_still(moves: Moves, box_size: int) -> bool:
    limits = (
        (moves.pose_degrees, np.degrees(_STILL_RADIANS_TIMES_BOX / box_size)),
        (moves.shift_pixels, _STILL_PIXELS),
        (moves.latents, _STILL_LATENTS),
        (moves.volume, _STILL_VOLUME),
    )
    known = [move <= limit for move, limit in limits if move is not None]
    return bool(known) and all(known)


def _said(moves: Moves) -> str:
    parts = []
    if moves.pose_degrees is not None:
        parts.append(f"poses have turned by {moves.pose_degrees:.2g}° (median)")
    if moves.shift_pixels is not None:
        parts.append(f"shifts moved by {moves.shift_pixels:.2g} pixels")
    if moves.latents is not None:
        parts.append(f"latents moved by {100 * moves.latents:.2g} % of their spread")
    if moves.volume is not None:
        parts.append(f"the volume changed by {100 * moves.volume:.2g} %")
    return ", ".join(parts)
