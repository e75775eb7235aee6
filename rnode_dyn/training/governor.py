"""The fewest steps a block at which a flow stays solved while it trains."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Splits
from rnode_dyn.fields.conv import ConvField
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.refinement import Refinement, refine, set_step_count, step_count
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.recipe.schema import GovernorRecipe, Recipe
from rnode_dyn.training.allocation import allocate
from rnode_dyn.training.module import FlowTraining

_SEED = 20_200_207


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
    the tolerance, the blocks that cause it get more steps; where it is far below, some are taken
    away. A flow whose likelihood, properly solved, has become worse while the gap opened has
    learned the solver's error: it goes back to the weights that were last found sound.

    Args:
        blocks: The blocks to govern; their training solvers make fixed steps.
        batch: Held-out data, dequantized, ``(batch, *event)``.
        settings: How closely.
    """

    def __init__(
        self,
        blocks: Sequence[RegularizedFlow],
        batch: Tensor,
        settings: GovernorSettings | None = None,
    ) -> None:
        self.blocks, self.batch = list(blocks), batch
        self.settings = GovernorSettings() if settings is None else settings
        self.returns = 0
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
        refinement = self._measure(trainer, pl_module)
        for _ in range(_most_rounds(self.settings)):
            if self._is_solved(refinement, pl_module):
                break
            self._adjust(refinement, pl_module)
            refinement = self._measure(trainer, pl_module)
        if self._is_solved(refinement, pl_module):
            self._keep(trainer, pl_module, refinement)
        self._log(trainer, refinement, pl_module)

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
        refinement = self._measure(trainer, pl_module)
        if self._is_solved(refinement, pl_module):
            self._keep(trainer, pl_module, refinement)
        elif self._is_exploited(refinement):
            self._go_back(trainer, pl_module)
        self._log(trainer, refinement, pl_module)
        self._adjust(refinement, pl_module)

    def _measure(self, trainer: pl.Trainer, module: FlowTraining) -> Refinement:
        """Solve at n and 2n steps; one process measures for all."""
        batch = self.batch.to(module.device, module.dtype)
        found = refine(module.model, batch, self.blocks, _SEED)
        return trainer.strategy.broadcast(found)

    def _total(self, refinement: Refinement, module: FlowTraining) -> float:
        return sum(refinement.gaps) * _bits(module)

    def _is_solved(self, refinement: Refinement, module: FlowTraining) -> bool:
        return self._total(refinement, module) <= self.settings.tolerance

    def _adjust(self, refinement: Refinement, module: FlowTraining) -> None:
        counts = allocate(
            [gap * _bits(module) for gap in refinement.gaps],
            self.steps,
            [_order(flow) for flow in self.blocks],
            _costs(self.blocks, module.model),
            self.settings.tolerance,
            self.settings.max_steps,
        )
        for flow, count in zip(self.blocks, counts, strict=True):
            set_step_count(flow, count)

    def _is_exploited(self, refinement: Refinement) -> bool:
        """Whether the flow, properly solved, is worse than when it was last sound."""
        now = float(refinement.log_prob.mean())
        return self._sound is not None and not now >= self._sound["log_prob"]

    def _keep(self, trainer: pl.Trainer, module: FlowTraining, refinement: Refinement) -> None:
        weights = {"state_dict": module.state_dict()}
        for averaging in _averagings(trainer):
            averaging.on_save_checkpoint(trainer, module, weights)
        self._sound = {
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

    def _log(self, trainer: pl.Trainer, refinement: Refinement, module: FlowTraining) -> None:
        number = {flow: k for k, flow in enumerate(module.model.blocks)}
        figures = {f"steps/block_{number[flow]}": float(step_count(flow)) for flow in self.blocks}
        gap = self._total(refinement, module)
        for logger in trainer.loggers:
            logger.log_metrics(
                {**figures, "governor/gap": gap, "governor/returns": float(self.returns)},
                trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """Keep the steps and the sound weights, for a run that goes on."""
        return {"steps": self.steps, "returns": self.returns, "sound": self._sound}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        for flow, count in zip(self.blocks, state_dict["steps"], strict=True):
            set_step_count(flow, count)
        self.returns, self._sound = state_dict["returns"], state_dict["sound"]
        self._goes_on = True


def build_governor(recipe: Recipe, model: MultiscaleFlow, splits: Splits) -> StepGovernor | None:
    """Return the governor of the blocks whose recipe says ``step = "auto"``, if any does.

    Args:
        recipe: The recipe.
        model: Its flow.
        splits: Its data: the first validation points are what is watched.
    """
    blocks = [
        block
        for number, scale in enumerate(model.scale_list())
        for block in scale.blocks
        if recipe.for_scale(number).solver.step == "auto"
    ]
    if not blocks:
        return None
    table = recipe.train.governor or GovernorRecipe()
    batch = splits.validation.head(table.points)
    if splits.levels is not None:
        seeded = torch.Generator().manual_seed(_SEED)
        batch = UniformDequantization(splits.levels)(batch, seeded)
    settings = GovernorSettings(table.tolerance, table.every, table.max_steps)
    return StepGovernor(blocks, batch, settings)


def _averagings(trainer: pl.Trainer) -> list[WeightAveraging]:
    """Running means of the weights, which keep a state beside the model's."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]


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
    uses = math.prod(shape[1:]) if isinstance(flow.field, ConvField) else 1
    return max(1, sum(p.numel() for p in flow.field.parameters()) * uses)


def _most_rounds(settings: GovernorSettings) -> int:
    return 1 + math.ceil(math.log2(settings.max_steps))
