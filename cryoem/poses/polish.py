"""Poses between the points of a grid: the minimum of an image's error next to a given pose.

Gauss-Newton steps, damped as by Marquardt (1963), on ``|C S V_R - X|^2`` (nats, as in
:mod:`cryoem.poses.scores`), with the phases ``S`` that shift the slice to where the image is.
Slices at small turns to either side give the derivative by rotation, the slice itself that by
shift: derivatives of the model and not of the image, whose noise would make every step too short.
Where the volume is linear in latents with a standard normal prior these are unknowns too, so that
what a latent explains does not pass for a turn.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.batch import Pose
from cryoem.lattice import shift_phases
from cryoem.poses.scores import SearchImages
from cryoem.poses.volume_cache import VolumeCache
from cryoem.rotations import small_rotation

_ITERATIONS = 3
_DAMPING = 0.01
# How far, in Fourier pixels at the edge of the disc: turns that give a derivative, and most steps.
_TURN, _MOST_TURN = 0.5, 1.5
_MOST_SHIFT = 1.0  # pixels


@dataclass(frozen=True)
class Polisher:
    """Polishes poses under one cached volume.

    Parameters
    ----------
    cache
        The volume, or components of volumes.
    freqs
        Of the disc that is compared, cycles per pixel, in order of their length.
    """

    cache: VolumeCache
    freqs: Float[Tensor, "freq 3"]

    @property
    def bytes_each(self) -> int:
        """Memory that an image takes for a moment, about."""
        n_columns = 5 + self.cache.n_latents + 12 * self.cache.n_components
        return 2 * 8 * n_columns * len(self.freqs)

    @torch.no_grad()
    def __call__(
        self, images: SearchImages, pose: Pose
    ) -> tuple[Pose, Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Move each pose downhill; one that nothing near is better than stays.

        Parameters
        ----------
        images
            At the frequencies of the disc.
        pose
            Where to begin.

        Returns
        -------
        tuple
            Poses; their errors, with the prior of latents (nats); how much lower these are than
            before: not negative.
        """
        state = self._at(images, pose)
        first = state.objective
        damping = torch.full_like(first, _DAMPING)
        for _ in range(_ITERATIONS):
            moved = self._step(state, damping)
            better = moved.objective < state.objective
            damping = torch.where(better, damping / 4, damping * 16)
            state = moved.where(better, state)
        return state.pose, state.objective, first - state.objective

    def _at(self, images: SearchImages, pose: Pose) -> "_State":
        """What a pose, and the latents of the images, come to."""
        components = self.cache.slices(pose.rotation, self.freqs)
        phases = shift_phases(self.freqs, -pose.shift) * images.transfer
        model = images.combine_own(components) * phases
        residual = model - images.fourier
        objective = residual.abs().square().sum(-1)
        if self.cache.n_latents:
            assert images.coefficients is not None
            objective = objective + 0.5 * images.coefficients[:, 1:].square().sum(-1)
        return _State(images, pose, objective, components, phases, model, residual)

    def _step(self, state: "_State", damping: Float[Tensor, " batch"]) -> "_State":
        columns = self._derivatives(state)
        product = columns @ torch.view_as_real(state.residual).flatten(-2)[..., None]
        gradient, curvature = product[..., 0], columns @ columns.mT
        if self.cache.n_latents:
            assert state.images.coefficients is not None
            gradient[:, 5:] += 0.5 * state.images.coefficients[:, 1:]
            curvature.diagonal(dim1=-2, dim2=-1)[:, 5:] += 0.5
        diagonal = curvature.diagonal(dim1=-2, dim2=-1)
        curvature = curvature + torch.diag_embed(damping[:, None] * diagonal + 1e-6)
        step = -torch.linalg.solve(curvature, gradient)
        turn = _at_most(step[:, :3], _MOST_TURN * self._turn_of_a_pixel)
        pose = Pose(
            small_rotation(turn) @ state.pose.rotation,
            state.pose.shift + _at_most(step[:, 3:5], _MOST_SHIFT),
        )
        images = state.images
        if self.cache.n_latents:
            assert images.coefficients is not None
            coefficients = images.coefficients.clone()
            coefficients[:, 1:] += step[:, 5:]
            images = replace(images, coefficients=coefficients)
        return self._at(images, pose)

    def _derivatives(self, state: "_State") -> Float[Tensor, "batch unknown column"]:
        """By turns (radians) about x, y, z, shifts (pixels) and latents."""
        turn = _TURN * self._turn_of_a_pixel
        axes = turn * torch.eye(3, device=self.freqs.device)
        both = small_rotation(torch.cat([axes, -axes]))  # (6, 3, 3)
        rotations = both @ state.pose.rotation[:, None]
        slices = self.cache.slices(rotations.flatten(0, 1), self.freqs).unflatten(0, (-1, 6))
        slices = state.images.combine_own(slices)
        by_turn = (slices[:, :3] - slices[:, 3:]) / (2 * turn) * state.phases[:, None]
        by_shift = (2j * torch.pi) * self.freqs.T[:2] * state.model[:, None]
        columns = [by_turn, by_shift]
        if self.cache.n_latents:
            columns.append(state.components[:, 1:] * state.phases[:, None])
        return torch.view_as_real(torch.cat(columns, 1)).flatten(-2)

    @property
    def _turn_of_a_pixel(self) -> float:
        """Radians that move the edge of the disc by a Fourier pixel."""
        return 1 / (self.cache.box_size * float(self.freqs[-1].norm()))


@dataclass(frozen=True)
class _State:
    """Poses and latents, and what follows from them."""

    images: SearchImages
    pose: Pose
    objective: Float[Tensor, " batch"]
    components: Complex[Tensor, "batch component freq"]
    phases: Complex[Tensor, "batch freq"]
    model: Complex[Tensor, "batch freq"]
    residual: Complex[Tensor, "batch freq"]

    def where(self, mine: Tensor, other: "_State") -> "_State":
        """Rows of this where ``mine``, else of the other."""

        def choose(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(mine.view(-1, *[1] * (a.ndim - 1)), a, b)

        images = self.images
        if images.coefficients is not None and other.images.coefficients is not None:
            coefficients = choose(images.coefficients, other.images.coefficients)
            images = replace(images, coefficients=coefficients)
        pose = Pose(
            choose(self.pose.rotation, other.pose.rotation),
            choose(self.pose.shift, other.pose.shift),
        )
        names = ("objective", "components", "phases", "model", "residual")
        rest = [choose(getattr(self, name), getattr(other, name)) for name in names]
        return _State(images, pose, *rest)


def _at_most(step: Float[Tensor, "batch axis"], length: float) -> Float[Tensor, "batch axis"]:
    return step * (length / step.norm(dim=-1, keepdim=True).clamp_min(length))
