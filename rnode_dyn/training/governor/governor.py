"""The fewest steps a block at which a flow stays solved while it trains."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from rnode_dyn.fields.conv import ConvField
from rnode_dyn.fields.unet import UNetField
from rnode_dyn.flows.conditions import as_precise
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.refinement import Refinement, refine, set_step_count, step_count
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.training.governor.allocation import allocate
from rnode_dyn.training.loop.module import FlowTraining

SEED = 20_200_207

# From how many tolerances on a gap is one to go back for; below, more steps will do.
_WIDE_OPEN = 10

# Looks after a number of steps turned out too small, until a smaller one is tried again.
_LOOKS_OF_REST = 4


@dataclass(frozen=True)
class GovernorSettings:
    """How closely a flow is kept solved.

    Attributes:
        tolerance: Largest gap between n and 2n steps, summed over the blocks, in bits/dim.
        every: Updates between two looks at it.
        max_steps: Most steps a block is given.
    """

    tolerance: float = 0.003
    every: int = 50
    max_steps: int = 64


class StepGovernor(pl.Callback):
    """Gives every block as few fixed steps as leave the flow solved, and watches over it.

    Every so many updates a held-out batch is solved at n and at 2n steps. Where the gap passes
    the tolerance, the blocks that cause it get more steps; where fewer are expected to do, some
    are taken away, and given back at once if the flow is not solved without them. A flow whose
    likelihood, properly solved, has become worse while the gap opened wide has learned the
    solver's error: it goes back to the weights that were last found sound, and the blocks to
    blame have a step more than they had for the rest of the training.

    Args:
        blocks: The blocks to govern; their training solvers make fixed steps.
        batch: Held-out data, dequantized, ``(batch, *event)``.
        settings: How closely.
        tell: Takes a sentence where the flow went back, or cannot be solved within the most steps.
        condition: Of a conditional flow, the batch's, a row a sample.
    """

    def __init__(
        self,
        blocks: Sequence[RegularizedFlow],
        batch: Tensor,
        settings: GovernorSettings | None = None,
        tell: Callable[[str], None] | None = None,
        condition: Tensor | None = None,
    ) -> None:
        self.blocks, self.batch, self.condition = list(blocks), batch, condition
        self.settings = GovernorSettings() if settings is None else settings
        self.tell = tell or (lambda text: None)
        self.returns = 0
        self.gap: float | None = None
        self._least = [1] * len(self.blocks)
        self._rest = 0
        self._told = False
        self._goes_on = False
        self._looked_at = 0
        self._sound: dict[str, Any] | None = None

    @property
    def steps(self) -> list[int]:
        """Steps of every block."""
        return [step_count(flow) for flow in self.blocks]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the steps to begin with, unless a checkpoint has told them."""
        assert isinstance(pl_module, FlowTraining)
        if self._goes_on:
            return
        for flow, count in zip(self.blocks, self.steps, strict=True):
            set_step_count(flow, min(count, self.settings.max_steps))
        refinement = self._settle(trainer, pl_module)
        if self._is_solved:
            self._keep(trainer, pl_module, refinement)
        self._log(trainer, pl_module)
        self._tell_unsolved(self.steps)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the gap, every so many updates."""
        assert isinstance(pl_module, FlowTraining)
        if trainer.global_step % self.settings.every or trainer.global_step == self._looked_at:
            return
        self._looked_at = trainer.global_step
        refinement, before = self._measure(trainer, pl_module), self.steps
        exploited = self._is_exploited(refinement)
        if self._is_solved:
            self._keep(trainer, pl_module, refinement)
        elif exploited:
            self._go_back(trainer, pl_module)
        self._log(trainer, pl_module)
        self._adjust(refinement, pl_module)
        self._tell_unsolved(before)
        if exploited:
            self._learn(before)
        elif _some_are_fewer(self.steps, before):
            self._try_fewer(trainer, pl_module)
        self._rest = max(0, self._rest - 1)

    def _learn(self, before: list[int]) -> None:
        """Never again give the blocks that get more steps as few as they had."""
        now = zip(self._least, before, self.steps, strict=True)
        self._least = [max(least, n + 1) if m > n else least for least, n, m in now]

    def _try_fewer(self, trainer: pl.Trainer, module: FlowTraining) -> None:
        """See whether fewer steps solve the flow; where they do not, try none for a while."""
        fewer = self.steps
        self._settle(trainer, module)
        if _some_are_fewer(fewer, self.steps):
            self._rest = _LOOKS_OF_REST

    def _settle(self, trainer: pl.Trainer, module: FlowTraining) -> Refinement:
        """Add steps until the flow is solved, or has as many as there may be."""
        refinement = self._measure(trainer, module)
        for _ in range(_most_rounds(self.settings)):
            if self._is_solved:
                break
            self._adjust(refinement, module)
            refinement = self._measure(trainer, module)
        return refinement

    def _measure(self, trainer: pl.Trainer, module: FlowTraining) -> Refinement:
        """Solve at n and 2n steps; one process measures for all."""
        weights = next(module.parameters())
        # Their device and precision, but for data that are more precise than they.
        batch = self.batch.to(weights.device, torch.promote_types(self.batch.dtype, weights.dtype))
        given = self.condition
        if given is not None:
            given = as_precise(module.model, given.to(weights.device))
        refinement = refine(module.model, batch, self.blocks, SEED, given)
        found = trainer.strategy.broadcast(refinement)
        self.gap = sum(found.gaps) * _bits(module)
        return found

    @property
    def _is_solved(self) -> bool:
        return self.gap is not None and self.gap <= self.settings.tolerance

    def _adjust(self, refinement: Refinement, module: FlowTraining) -> None:
        counts = allocate(
            [gap * _bits(module) for gap in refinement.gaps],
            self.steps,
            [_order(flow) for flow in self.blocks],
            _costs(self.blocks, module.model),
            self.settings.tolerance,
            self.settings.max_steps,
            self.steps if self._rest else self._least,
        )
        for flow, count in zip(self.blocks, counts, strict=True):
            set_step_count(flow, count)

    def _is_exploited(self, refinement: Refinement) -> bool:
        """Whether the gap is wide open, and the flow, properly solved, worse than when sound."""
        if self._sound is None or self.gap is None:
            return False
        worse = not float(refinement.log_prob.mean()) >= self._sound["log_prob"]
        return worse and not self.gap <= _WIDE_OPEN * self.settings.tolerance

    def _keep(self, trainer: pl.Trainer, module: FlowTraining, refinement: Refinement) -> None:
        weights = {"state_dict": module.state_dict()}
        for averaging in _averagings(trainer):
            averaging.on_save_checkpoint(trainer, module, weights)
        self._sound = {
            "step": module.steps,
            "log_prob": float(refinement.log_prob.mean()),
            "weights": copy.deepcopy(weights),
            "optimizer": copy.deepcopy(trainer.optimizers[0].state_dict()),
        }

    def _go_back(self, trainer: pl.Trainer, module: FlowTraining) -> None:
        assert self._sound is not None
        module.load_state_dict(self._sound["weights"]["state_dict"])
        for averaging in _averagings(trainer):
            averaging.on_load_checkpoint(trainer, module, self._sound["weights"])
        optimizer = trainer.optimizers[0]
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(copy.deepcopy(self._sound["optimizer"]))
        # The schedule goes on all the same.
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.returns += 1
        self.tell(
            f"step {module.steps}: the flow had learned the error of {self._in_words}, and goes "
            f"back to the weights of step {self._sound['step']}"
        )

    @property
    def _in_words(self) -> str:
        return f"{' '.join(map(str, self.steps))} steps a block"

    def _tell_unsolved(self, before: list[int]) -> None:
        """Say so, once, where there were no more steps to give."""
        if self._is_solved:
            self._told = False
        elif self.steps == before and not self._told:
            self._told = True
            self.tell(
                f"the flow is not solved: {self._in_words} leave a gap of {self.gap:.3g} bits/dim, "
                f"and train.governor.max_steps is {self.settings.max_steps}. Do not trust the "
                "bits/dim of training; raise max_steps or the penalties' weights, or lower the "
                "learning rate"
            )

    def _log(self, trainer: pl.Trainer, module: FlowTraining) -> None:
        number = {flow: k for k, flow in enumerate(module.model.blocks)}
        figures = {f"steps/block_{number[flow]}": float(step_count(flow)) for flow in self.blocks}
        assert self.gap is not None  # it has been measured
        for logger in trainer.loggers:
            logger.log_metrics(
                {**figures, "governor/gap": self.gap, "governor/returns": float(self.returns)},
                trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """Keep the steps and the sound weights, for a run that goes on."""
        return {
            "steps": self.steps,
            "gap": self.gap,
            "returns": self.returns,
            "least": self._least,
            "rest": self._rest,
            "looked_at": self._looked_at,
            "sound": self._sound,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        for flow, count in zip(self.blocks, state_dict["steps"], strict=True):
            set_step_count(flow, count)
        self.gap, self.returns = state_dict["gap"], state_dict["returns"]
        self._least, self._rest = state_dict["least"], state_dict["rest"]
        self._sound = state_dict["sound"]
        self._looked_at = state_dict.get("looked_at", 0)  # older versions had none
        self._goes_on = True


def _averagings(trainer: pl.Trainer) -> list[WeightAveraging]:
    """Running means of the weights, which keep a state beside the model's."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]


def _some_are_fewer(steps: list[int], than: list[int]) -> bool:
    return any(n < m for n, m in zip(steps, than, strict=True))


def _bits(module: FlowTraining) -> float:
    """Bits per dimension in a nat per sample."""
    return 1 / (module.event.dims * math.log(2))


def _order(flow: RegularizedFlow) -> int:
    return flow.solver.algorithm.order


def _costs(blocks: Sequence[RegularizedFlow], model: MultiscaleFlow) -> list[float]:
    """What an evaluation of each block costs: its weights, and how often each is used."""
    shapes = {station.flow: station.shape for station in model.walk()}
    return [_cost(flow, shapes[flow]) for flow in blocks]


def _cost(flow: RegularizedFlow, shape: Sequence[int]) -> float:
    uses = math.prod(shape[1:]) if isinstance(flow.field, ConvField | UNetField) else 1
    return max(1, sum(p.numel() for p in flow.field.parameters()) * uses)


def _most_rounds(settings: GovernorSettings) -> int:
    return 1 + math.ceil(math.log2(settings.max_steps))
