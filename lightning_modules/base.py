"""What every reconstruction shares: step, logging, optimiser, schedule and checkpoint."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn, optim

from cryoem.batch import ParticleBatch
from cryoem.checkpoint import KEY, describe, plain, read_checkpoint
from cryoem.decoders.base import Decoder, Regularised, radial_scale
from cryoem.encoders.base import LatentGaussian
from cryoem.errors import InputError
from cryoem.forward_model import ForwardModel
from cryoem.geometry import ImageGeometry
from cryoem.lattice import FourierLattice
from cryoem.poses.base import PoseProvider
from cryoem.poses.rows import RowTable
from cryoem.poses.scores import SearchImages
from cryoem.poses.searched import SearchedPoses
from cryoem.poses.volume_cache import VolumeCache
from lightning_modules.guard import LossGuard, not_finite
from lightning_modules.optim import adam, warmup_cosine
from lightning_modules.parts import Parts


@dataclass(frozen=True)
class LossTerms:
    """What is minimised, per image and in nats: ``error + beta * kl``; and the latents."""

    error: Float[Tensor, " batch"]
    kl: Float[Tensor, " batch"] | None = None
    beta: float = 0.0
    latent: LatentGaussian | None = None


class Reconstruction(pl.LightningModule, ABC):
    """One or more decoders fitted to particle images.

    The loss is the mean over images of :class:`LossTerms`, plus the prior of the decoder shared out
    among the particles, divided by the number of frequencies: 1 for a perfect volume without a
    latent.

    Parameters
    ----------
    geometry, poses, data_scale
        What the datamodule knows after ``setup``: ``data.geometry``, a pose provider called with
        ``data.pose``, ``data.data_scale``.
    decoder
        Factory, called as ``decoder(box_size=..., latent_dim=...)``.
    optimizer
        Factory, called with the parameters.
    radius
        Largest Fourier radius (pixels) that is compared; Nyquist when None.
    amplitude
        ``data.amplitude``, copied into the decoder's buffer of that name where it has one; ones
        when None.
    warmup_fraction, final_fraction
        The learning rate rises linearly over this fraction of all steps, then falls as a cosine to
        this fraction of its value.
    latent_dim, n_decoders
        Set by the concrete class.

    Attributes
    ----------
    config
        A plain dict (``OmegaConf.to_container(cfg, resolve=True)``) kept in the checkpoint; set it
        after building.
    compared_radius
        Fourier radius (pixels) up to which images are compared at the moment; a search for poses
        lets it grow.
    lr_factor
        On the learning rate; larger in a random start, lower after a volume has collapsed.
    skipped
        Whether the last step was not made, its gradient not being finite; on the device.
    """

    kind: str
    amplitude: Float[Tensor, " shell"]

    def __init__(
        self,
        geometry: ImageGeometry,
        poses: PoseProvider,
        data_scale: float = 1.0,
        *,
        decoder: Callable[..., Decoder],
        optimizer: Callable[..., optim.Optimizer] = adam,
        radius: int | None = None,
        amplitude: Float[Tensor, " shell"] | None = None,
        warmup_fraction: float = 0.02,
        final_fraction: float = 0.05,
        latent_dim: int = 0,
        n_decoders: int = 1,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.data_scale = data_scale
        self.latent_dim = latent_dim
        self.lattice = FourierLattice(geometry.box_size, radius)
        self.compared_radius = self.lattice.radius
        self.poses = poses
        self.make_decoder = decoder
        amplitude = torch.ones(geometry.box_size) if amplitude is None else amplitude
        self.register_buffer("amplitude", amplitude, persistent=False)
        models = []
        for _ in range(n_decoders):
            network = decoder(box_size=geometry.box_size, latent_dim=latent_dim)
            self._set_amplitude(network)
            models.append(ForwardModel(network, self.lattice, geometry.pixel_size_angstrom))
        self.forward_models = nn.ModuleList(models)
        self.optimizer = optimizer
        self.schedule = (warmup_fraction, final_fraction)
        self.lr_factor = 1.0
        self._total_steps = math.inf
        self.decoder_recipe = describe(decoder)
        self.encoder_recipe: dict[str, Any] | None = None
        self.config: dict[str, Any] = {}
        self.guard, self.parts = LossGuard(), Parts()
        self.skipped = torch.tensor(False)

    @property
    def decoders(self) -> list[Decoder]:
        """One network, or one per half-set."""
        return [self.forward_model(i).decoder for i in range(len(self.forward_models))]

    def forward_model(self, i: int = 0) -> ForwardModel:
        """Image formation with the decoder number ``i``."""
        return cast(ForwardModel, self.forward_models[i])

    @property
    def signal_power(self) -> Float[Tensor, " freq"]:
        """Mean power of a slice, without CTF, at the points of the lattice."""
        return radial_scale(self.amplitude, self.lattice.radii).square()

    @property
    def n_compared(self) -> int:
        """Number of frequencies up to ``compared_radius``."""
        return self.lattice.count(self.compared_radius)

    @abstractmethod
    def loss_terms(self, batch: ParticleBatch) -> LossTerms:
        """Compare a batch with what the model predicts for it."""

    def _set_amplitude(self, decoder: Decoder) -> None:
        buffer = dict(cast(nn.Module, decoder).named_buffers()).get("amplitude")
        if buffer is not None:
            buffer.copy_(self.amplitude)

    def float32(self) -> torch.autocast:
        """Context in which autocast is off: coordinates, CTF and loss need their digits."""
        return torch.autocast(self.device.type, enabled=False)

    def training_step(self, batch: ParticleBatch, batch_idx: int) -> dict[str, Tensor]:
        """Mean loss of a batch, what it is made of, and what it found about each image.

        Of a part of the batch, where memory is short; ``objective`` and the rest are then what the
        parts so far add up to.
        """
        if self.parts.now == 0:
            for table in self.row_tables():
                table.forget_gradients()
        part = self.parts.of(batch)
        terms = self.loss_terms(part)
        values = self._means(terms, part, batch)
        loss = values["loss"] * self.guard.factor(values["loss"])
        found = {"objective": values.pop("loss").detach(), **values, **self._of_each_image(terms)}
        found = self.parts.join(found, len(batch))
        if self.parts.is_last:
            logged = {"train/loss": found["objective"]}
            logged |= {f"train/{name}": found[name] for name in values}
            self.log_dict(logged, batch_size=len(batch))
        return {"loss": loss, **found}

    def losses(self, batch: ParticleBatch) -> dict[str, Tensor]:
        """``loss``, to be minimised, and without a gradient what it is made of."""
        return self._means(self.loss_terms(batch), batch, batch)

    def _means(
        self, terms: LossTerms, part: ParticleBatch, batch: ParticleBatch
    ) -> dict[str, Tensor]:
        """What a part adds to the means over the batch, such that the mean over ranks is right."""
        total = terms.error if terms.kl is None else terms.error + terms.beta * terms.kl
        prior = self._negative_log_prior() / (self.geometry.n_particles * self.parts.n)
        per_weight, per_image = self._shares(batch)
        values = {
            "loss": ((total * self._weights(part)).sum() * per_weight + prior) / self.n_compared,
            "error": terms.error.detach().sum() * per_image / self.n_compared,
        }
        if terms.kl is not None:
            values["kl"] = terms.kl.detach().sum() * per_image
        return values

    def _of_each_image(self, terms: LossTerms) -> dict[str, Tensor]:
        """Error per frequency, KL divergence and latent of each image of a batch."""
        found = {"image_error": terms.error.detach() / self.n_compared}
        if terms.kl is not None and terms.latent is not None:
            found["image_kl"] = terms.kl.detach()
            found["latent"] = terms.latent.mean.detach()
        return found

    def configure_callbacks(self) -> list[pl.Callback]:
        """What searches for poses, if they are to be found."""
        from lightning_modules.ab_initio import AbInitio  # it needs this class

        return [AbInitio()] if isinstance(self.poses, SearchedPoses) else []

    @abstractmethod
    def cached_volumes(self, radius: int) -> list[VolumeCache]:
        """Volumes as they are now, for a search up to a radius: one, or one for each half-set."""

    @abstractmethod
    def search_images(self, batch: ParticleBatch, cache: VolumeCache) -> SearchImages:
        """Images as a search wants them, with their latents in the terms of a cache."""

    def make_afresh(self, seed: int) -> None:
        """Random weights again, the same on all ranks, whatever was learnt."""
        self.guard = LossGuard()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for model in self.forward_models:
                decoder = cast(nn.Module, model.decoder)
                fresh = self.make_decoder(
                    box_size=self.geometry.box_size, latent_dim=self.latent_dim
                )
                self._set_amplitude(fresh)
                decoder.load_state_dict(cast(nn.Module, fresh).state_dict())

    def configure_optimizers(self) -> optim.Optimizer:
        """The given optimiser; its learning rate is set at every step."""
        optimizer = self.optimizer(self.parameters())
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def on_train_start(self) -> None:
        """Tell the schedules where we are; after resuming this need not be the start.

        Lightning could estimate the number of steps earlier, but then it makes the loader before
        it reads the checkpoint, and forgets to restore the loader's state.
        """
        self._total_steps = _total_steps(self.trainer)
        self.poses.begin_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate: a function of the step and ``lr_factor``, resumed or not."""
        factor = self._learning_rate_factor(self.global_step)
        for group in cast(optim.Optimizer, self.optimizers(use_pl_optimizer=False)).param_groups:
            group["lr"] = group["initial_lr"] * factor

    def on_train_epoch_start(self) -> None:
        """Tell the poses which epoch it is."""
        self.poses.begin_epoch(self.current_epoch)

    def on_after_backward(self) -> None:
        """Step the per-particle tables, which no optimiser knows, if the gradient is finite."""
        if not self.parts.is_last:
            return
        self.skipped = not_finite(list(self.parameters()))
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = torch.full((), float(self.trainer.world_size), device=self.device)
        if scaler is None:
            optimizer: Any
            for optimizer in self.trainer.optimizers:  # a fused one then leaves the weights
                optimizer.found_inf, optimizer.grad_scale = self.skipped.float(), None
        else:  # does so by itself; its number, asked for directly, would make the host wait
            scale = scaler.scale(scale)
        scale = torch.where(self.skipped, torch.nan, scale)
        factor = self._learning_rate_factor(self.global_step)
        for table in self.row_tables():
            table.apply_gradients(scale, factor)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make a step, in parts where that is faster or all at once does not fit into memory."""
        make = partial(super().optimizer_step, epoch, batch_idx, optimizer)
        closure = cast(Callable[[], Any], optimizer_closure)
        if self.trainer.world_size > 1:  # the others wait for exactly one gradient
            self.parts.step(make, closure, not_yet=cast(Any, self.trainer.model).no_sync)
        else:
            self.parts.step_that_fits(make, closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: optim.Optimizer) -> None:
        """Forget the last step's gradient, and not that of the parts before this one."""
        if self.parts.now == 0:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_train_epoch_end(self) -> None:
        """Make the tables of all ranks equal."""
        self.merge_tables()

    def row_tables(self) -> list[RowTable]:
        """Tables of poses and latents that learn."""
        return [module for module in self.modules() if isinstance(module, RowTable)]

    def merge_tables(self) -> None:
        """Exchange the rows that each rank has stepped; call it on every rank."""
        if self.trainer.world_size > 1:
            for table in self.row_tables():
                table.merge(self.all_gather)  # type: ignore[arg-type]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what :func:`cryoem.checkpoint.load_run` needs to rebuild the networks."""
        pose = self.poses.table()
        checkpoint[KEY] = {
            "kind": self.kind,
            "geometry": asdict(self.geometry),
            "data_scale": self.data_scale,
            "radius": self.lattice.radius,
            "latent_dim": self.latent_dim,
            "n_decoders": len(self.forward_models),
            "decoder": self.decoder_recipe,
            "encoder": self.encoder_recipe,
            "pose": {"rotation": pose.rotation, "shift": pose.shift},
            "config": plain(self.config),
        }
        checkpoint["parts"] = self.parts.n

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take a batch in as many parts as before."""
        self.parts.n = checkpoint.get("parts", 1)

    def start_from(self, path: str | Path) -> None:
        """Take the networks' weights, and nothing else, from another run's checkpoint.

        Raises
        ------
        InputError
            If they do not fit these networks.
        """
        weights = read_checkpoint(path)["state_dict"]
        networks = {key: value for key, value in weights.items() if not key.startswith("poses.")}
        own = {key for key in self.state_dict() if not key.startswith("poses.")}
        try:
            self.load_state_dict(networks, strict=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"{path}: weights do not fit this model: {reason}") from None
        if own != set(networks):
            name = sorted(own ^ set(networks))[0]
            raise InputError(f"{path}: weights do not fit this model, which differs in {name}")

    def _weights(self, batch: ParticleBatch) -> Float[Tensor, " batch"]:
        if isinstance(self.poses, SearchedPoses):
            return self.poses.weights(batch.index)
        return torch.ones(len(batch), device=batch.index.device)

    def _shares(self, batch: ParticleBatch) -> Tensor:
        """Of one unit of weight, and of one image, in this rank's mean."""
        weights = self._weights(batch)
        sums = torch.stack([weights.sum(), torch.ones_like(weights).sum()])
        if self._trainer is None or self.trainer.world_size == 1:
            return 1 / sums.clamp_min(1)
        world_size = self.trainer.world_size
        return world_size / self.trainer.strategy.reduce(sums, reduce_op="sum").clamp_min(1)

    def _negative_log_prior(self) -> Tensor:
        priors = [d.negative_log_prior() for d in self.decoders if isinstance(d, Regularised)]
        return torch.stack(priors).sum() if priors else torch.zeros((), device=self.device)

    def _learning_rate_factor(self, step: int) -> float:
        return self.lr_factor * warmup_cosine(step, self._total_steps, *self.schedule)


def _total_steps(trainer: pl.Trainer) -> float:
    """Steps of the optimiser in the whole run, infinite for a run without an end."""
    by_steps = math.inf if trainer.max_steps < 0 else float(trainer.max_steps)
    if trainer.max_epochs is None or trainer.max_epochs < 0:
        return by_steps
    per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return min(by_steps, float(per_epoch * trainer.max_epochs))
