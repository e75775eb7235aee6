"""The Lightning module: an objective on a flow, and its bits per dimension on held-out data."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.paired import AnyBatch, taken_apart
from rnode_dyn.data.splits import Event
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.augmented_flow import refuse_bound
from rnode_dyn.flows.conditions import as_precise
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.share import drawn, sharing
from rnode_dyn.flows.standardize import standardizing
from rnode_dyn.numerics.checks import collecting
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.seeding import random_state_kept, reseed, seeded
from rnode_dyn.runs.past import Past
from rnode_dyn.training.loop.across import number_of, parts_of, share_of
from rnode_dyn.training.loop.blame import find_blame
from rnode_dyn.training.loop.clock import Clock
from rnode_dyn.training.loop.errors import DivergedError
from rnode_dyn.training.loop.held_out import HeldOut
from rnode_dyn.training.loop.optimizers import OptimizerSettings
from rnode_dyn.training.loop.pieces import check_pieces, loss_in_pieces
from rnode_dyn.training.loop.precision import HALF
from rnode_dyn.training.loop.progress import go_on_with_parts, go_on_within_the_epoch
from rnode_dyn.training.loop.step_figures import Part, StepFigures, gradient_norm
from rnode_dyn.training.loop.telling import diverged
from rnode_dyn.training.loop.watch import OnNonFinite, Watch
from rnode_dyn.training.objectives.base import Loss, Objective
from rnode_dyn.training.objectives.likelihood import Likelihood

# The noise of validation is the same every time, so that two epochs can be compared.
_VALIDATION_SEED = 20_200_207


class FlowTraining(pl.LightningModule):
    """Trains a flow on an objective.

    Args:
        model: The flow.
        event: What one sample of the data looks like.
        objective: What to minimise; the regularized likelihood when left out.
        optimizer: How to step; Adam at a rate of 0.001 when left out.
        past: What earlier stages of the training have taken.
        on_nonfinite: Whether a step whose loss or gradient is not finite stops the training, or
            is left out and counted; ten in a row stop it all the same.
        micro_batch: Samples of a batch that are solved and differentiated at once; all when left
            out. See :func:`rnode_dyn.training.loop.pieces.loss_in_pieces`.

    Raises:
        TypeError: if the flow has no exact density.
        ValueError: if the objective cannot be computed in pieces of that size.
    """

    def __init__(
        self,
        model: MultiscaleFlow,
        event: Event,
        objective: Objective | None = None,
        optimizer: OptimizerSettings | None = None,
        past: Past | None = None,
        on_nonfinite: OnNonFinite = "stop",
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        refuse_bound(model, "FlowTraining")
        self.model, self.event = model, event
        self.objective = Likelihood() if objective is None else objective
        if micro_batch is not None:
            check_pieces(self.objective, micro_batch)
        self.micro_batch = micro_batch
        self.validated_at = -1
        self.past = Past() if past is None else past
        self.training_clock = Clock(self.past.training_s)
        self.wall_clock = Clock(self.past.wall_clock_s)
        self.optimizer_settings = OptimizerSettings() if optimizer is None else optimizer
        self.watch = Watch(event.levels, self.optimizer_settings.warmup_steps, on_nonfinite)
        self.step_seed: int | None = None
        self._step, self._scores = StepFigures(), HeldOut()
        self._half: torch.dtype | None = None

    def dequantize(self, batch: Tensor) -> Tensor:
        """Spread integer pixels over their bins, in the weights' precision; continuous data not.

        Where that is half, in single: the model casts what it has preprocessed.
        """
        precision = torch.float32 if self.dtype in HALF else self.dtype
        if self.event.levels is None:
            # What the flow standardises may need more bits until it is.
            as_it_is = batch.dtype == torch.float64 and standardizing(self.model)
            return batch if as_it_is else batch.to(precision)
        dequantization = UniformDequantization(self.event.levels)
        noise = drawn(dequantization.draw, batch)
        return dequantization(batch, noise=noise).to(precision)

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Return the loss on a batch, weighted as the part of its step that it is."""
        share = share_of(self.trainer, batch, batch_idx, self.step_seed)
        part = Part(batch, batch_idx, share)
        self._step.parts.append(part)
        try:
            with collecting(self._step.checks):
                loss = self._loss(part)
        except SolverError as error:
            # Other processes wait for this one's gradient: it gets there, and is none.
            self._step.broken = self._step.earlier(error)
            loss = Loss(_nan_of(self.parameters()), {})
        self._step.add(loss, share.fraction)
        # A loss that is none has no gradient: an adjoint would stop at it, while others wait.
        value = loss.value.where(torch.isfinite(loss.value), math.nan)
        return value * (share.fraction * parts_of(self.trainer))

    def _loss(self, part: Part) -> Loss:
        with sharing(part.share):
            return self.loss(part.batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Differentiate; in a single process, a gradient that breaks down is one that is none."""
        try:
            super().backward(loss, *args, **kwargs)
        except SolverError as error:
            if self.trainer.world_size > 1:
                raise  # the others' gradients can no longer be met
            self._step.gradient_broken = self._step.earlier(error)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at a step before it is taken, with one reading of the device.

        Whether its solves and their gradients were sound is read with its loss and its figures.

        Raises:
            DivergedError: where its figures are not sound.
            SolverError: where that is because a solve broke down.
        """
        step, self._step = self._step, StepFigures(shared=self.trainer.world_size > 1)
        seen = step.read(gradient_norm(list(self.parameters())), self.trainer)
        fault = self.watch.fault(seen.loss, seen.norm, seen.bits, self.updates)
        if seen.broken:
            fault = fault or "a solve, or the gradient of one, broke down"
        if fault is None:
            self.watch.go_on()
            self._log_figures(seen.values or step.read_values(self.trainer))
        elif seen.is_finite:
            self._fail(fault, step)
        elif self._may_skip(math.isfinite(seen.loss)):
            self.log("train/skipped", float(self.watch.skipped))
        else:
            self._fail(self.watch.in_words(fault), step)

    def _log_figures(self, figures: dict[str, float]) -> None:
        """Log what is known to the host as tensors of its own, which nobody need wait for."""
        told = {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
        self.log_dict({f"train/{name}": value for name, value in told.items()})

    def _may_skip(self, loss_is_finite: bool) -> bool:
        """Leave a step out, if it may be; a scaler of half precision does so of its own accord."""
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not self.watch.skip(always=scaled and loss_is_finite):
            return False
        for parameter in self.parameters():
            parameter.grad = None
        return True

    def _fail(self, fault: str, step: StepFigures) -> NoReturn:
        found = find_blame(self.model, step, self._again)
        raise diverged(self.trainer, self.steps, fault, step, found) from step.gradient_broken

    def _again(self, part: Part) -> Loss:
        """Take a part's loss once more, with the noise that it had."""
        with random_state_kept(self.device):
            if self.step_seed is not None:
                reseed(self.device, self.step_seed)
            return self._loss(part.afresh())

    def on_validation_epoch_start(self) -> None:
        """Begin with no scores."""
        self._scores = HeldOut()

    def enter(self, batch: AnyBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a batch as the model takes it: dequantized, and its condition by name."""
        samples, given = taken_apart(batch)
        return self.dequantize(samples), {
            name: as_precise(self.model, condition) for name, condition in given.items()
        }

    def loss(self, batch: AnyBatch) -> Loss:
        """Return the loss on a batch, computed in pieces where the training says so."""
        u, given = self.enter(batch)
        if self.micro_batch is None or self.micro_batch >= len(u):
            return self.objective.loss(self.model, u, self.event, **given)
        return loss_in_pieces(self.objective, self.model, u, self.event, self.micro_batch, **given)

    def gradient(self, batch: AnyBatch) -> None:
        """Compute a step's gradient, or a piece's, and let go of it: for timing it beforehand."""
        u, given = self.enter(batch[: self.micro_batch])
        loss = self.objective.loss(self.model, u, self.event, **given)
        trained = [p for p in self.parameters() if p.requires_grad]
        torch.autograd.grad(loss.value, trained, allow_unused=True)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Score a held-out batch in bits per dimension, by the evaluation solver."""
        number = number_of(self.trainer, batch_idx)
        if number is None:
            return
        with seeded(self.device, _VALIDATION_SEED + number):
            u, given = self.enter(batch)
            self._scores.add(number, bits_of(self.model(u, **given), self.event))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all samples, and remember which step's weights were validated.

        Raises:
            DivergedError: where the mean is not finite, or far worse than noise.
        """
        self.validated_at = self.trainer.global_step
        bits = self._scores.mean(self.trainer)
        if bits is None:
            return
        fault = self.watch.fault_of_held_out(bits, self.updates)
        if fault is not None:
            raise DivergedError(f"step {self.steps}: in validation, {fault}.", step=self.steps)
        self.log("validation/bits_per_dim", bits)

    @property
    def steps(self) -> int:
        """Optimizer steps so far, those of earlier stages included."""
        return self.past.steps + self.updates

    @property
    def updates(self) -> int:
        """Optimizer steps of this stage."""
        return self.trainer.global_step

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier stages included."""
        return self.training_clock.seconds

    def setup(self, stage: str) -> None:
        """Lay out the weights, before processes agree on how their gradients lie in memory."""
        lay_out(self.model, self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        """Start the clocks, before callbacks prepare the training."""
        self._step = StepFigures(shared=self.trainer.world_size > 1)
        self.training_clock.start()
        self.wall_clock.start()

    def on_train_end(self) -> None:
        """Stop the clocks."""
        self.training_clock.pause()
        self.wall_clock.pause()

    def on_validation_start(self) -> None:
        """Validation is no training, and scores weights of half precision in single."""
        self.training_clock.pause()
        self._half = self.dtype if self.dtype in HALF else None
        if self._half is not None:
            self.to(torch.float32)

    def on_validation_end(self) -> None:
        """Go on with the training, if that is what the validation was for."""
        if self._half is not None:
            self.to(self._half)
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.training_clock.start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the stage, the times, and which weights were validated."""
        times = {
            "training_s": self.training_clock.seconds,
            "wall_clock_s": self.wall_clock.seconds,
        }
        checkpoint["rnode_dyn"] = {
            **asdict(self.past),
            **times,
            "validated_at": self.validated_at,
        }
        checkpoint["rnode_dyn_watch"] = self.watch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the stage, the times, and what was validated."""
        kept = dict(checkpoint["rnode_dyn"])
        self.validated_at = kept.pop("validated_at")
        self.past = Past(**kept)
        self.training_clock = Clock(self.past.training_s)
        self.wall_clock = Clock(self.past.wall_clock_s)
        if "rnode_dyn_watch" in checkpoint:  # older versions had none
            self.watch.load_state_dict(checkpoint["rnode_dyn_watch"])
        go_on_within_the_epoch(checkpoint)
        go_on_with_parts(checkpoint, self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        settings = self.optimizer_settings
        optimizer = settings.build(self.parameters())
        total = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: settings.factor(step, total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _nan_of(parameters: Iterable[Tensor]) -> Tensor:
    """A loss that is not a number, and reaches all of them."""
    reached = [p.sum() for p in parameters if p.requires_grad]
    return torch.stack(reached).sum() * math.nan
