"""What a training step costs: operations and memory, counted before anything is paid."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rnode_dyn.costs.probe import SolveCounts, count_solve, steps_for, with_steps
from rnode_dyn.costs.saved import SavedTensors
from rnode_dyn.fields.at_times import at_times
from rnode_dyn.fields.own_product import with_own_product
from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.multiscale import MultiscaleFlow, Station
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.stepping.fixed import FixedStep

ASSUMED_STEPS = 4
"""Steps of an adaptive training solve where nothing is known: those of the paper's step of 0.25."""


@dataclass(frozen=True)
class EvaluationCost:
    """The cost of evaluating a block's augmented field once, for a batch.

    Attributes:
        shape: Shape of a sample in the block.
        flops: Operations of the evaluation: field, divergence and penalties.
        gradient_flops: Operations of differentiating it.
        graph_bytes: What it keeps for being differentiated.
        state_bytes: Size of the state that is solved for.
        noise_bytes: Size of the noise, which one solve draws once.
    """

    shape: tuple[int, ...]
    flops: int
    gradient_flops: int
    graph_bytes: int
    state_bytes: int
    noise_bytes: int


@dataclass(frozen=True)
class BlockCost:
    """The cost of a block in one training step.

    Attributes:
        evaluation: The cost of one evaluation.
        counts: How many there are, and what is kept of them.
        assumed: Whether the number of steps is an assumption.
    """

    evaluation: EvaluationCost
    counts: SolveCounts
    assumed: bool

    @property
    def forward_flops(self) -> int:
        """Operations of the forward solve."""
        return self.evaluation.flops * self.counts.forward

    @property
    def step_flops(self) -> int:
        """Operations of the forward solve and its gradient."""
        again = self.evaluation.flops * self.counts.again
        gradient = self.evaluation.gradient_flops * self.counts.differentiated
        return self.forward_flops + again + gradient

    @property
    def kept_bytes(self) -> int:
        """What the forward solve keeps for the gradient."""
        states = self.counts.states_kept * self.evaluation.state_bytes
        graphs = self.counts.graphs_kept * self.evaluation.graph_bytes
        return states + graphs + self.evaluation.noise_bytes

    @property
    def added_bytes(self) -> int:
        """The most that the gradient needs beside what was kept."""
        return self.counts.graphs_added * self.evaluation.graph_bytes

    def per_sample(self, batch_size: int) -> dict[str, Any]:
        """Return the figures of one sample of a batch as plain values."""
        costs = asdict(self.evaluation)
        shape = costs.pop("shape")
        return {
            "shape": list(shape),
            **{name: round(cost / batch_size) for name, cost in costs.items()},
            "evaluations": self.counts.forward,
            "evaluations_for_gradient": self.counts.again,
            "differentiated": self.counts.differentiated,
            "assumed": self.assumed,
        }


@dataclass(frozen=True)
class TrainingCost:
    """The cost of one training step.

    Attributes:
        batch_size: Samples in the step.
        blocks: What it takes in each block, in order.
    """

    batch_size: int
    blocks: Sequence[BlockCost]

    @property
    def forward_flops(self) -> int:
        """Operations of the forward pass."""
        return sum(block.forward_flops for block in self.blocks)

    @property
    def step_flops(self) -> int:
        """Operations of the step, the gradient included."""
        return sum(block.step_flops for block in self.blocks)

    @property
    def bytes(self) -> int:
        """The most memory that is kept for the gradient at once.

        The gradient goes from the last block to the first, letting go of each.
        """
        kept = accumulate(block.kept_bytes for block in self.blocks)
        return max(k + block.added_bytes for k, block in zip(kept, self.blocks, strict=True))

    @property
    def assumed(self) -> bool:
        """Whether the number of steps of some block is an assumption."""
        return any(block.assumed for block in self.blocks)


def training_cost(
    model: MultiscaleFlow,
    batch_size: int = 1,
    evaluations: int | None = None,
    governed: Collection[RegularizedFlow] = (),
) -> TrainingCost:
    """Count what one training step costs.

    Operations are those of matrix products and convolutions, two for each multiplication with its
    addition, as ``torch.utils.flop_counter`` has them; memory is that of 32-bit numbers, without
    the weights and the optimizer. Nothing is computed: the counting is done on shapes.

    Args:
        model: The flow.
        batch_size: Samples in the step.
        evaluations: How often an adaptive or governed training solve evaluates the field, about;
            left out, four steps are assumed of adaptive ones, as the paper's fixed step of 0.25
            makes, and of governed ones those that they begin with. Blocks with fixed steps take
            no notice.
        governed: The blocks whose steps the training chooses.

    Example:
        >>> from rnode_dyn import build_model, load_recipe
        >>> cost = training_cost(build_model(load_recipe("quickstart")))
        >>> cost.blocks[0].counts.forward, cost.forward_flops
        (16, 2097152)
    """
    blocks = [
        _block_cost(station, batch_size, evaluations, station.flow in governed)
        for station in model.walk()
    ]
    return TrainingCost(batch_size, blocks)


def evaluation_cost(flow: RegularizedFlow, shape: Sequence[int], batch_size: int) -> EvaluationCost:
    """Count one evaluation of a block's augmented field and its gradient, on shapes alone."""
    flow = deepcopy(flow).to("meta", torch.float32)
    x = torch.zeros(batch_size, *shape, device="meta")
    noise = flow.divergence.draw(x)
    written = with_own_product(flow.field, x)
    field = AugmentedField(written, shape, flow.divergence, noise, flow.regularizers, 1)
    width = field.channels + x[0].numel()
    y = torch.zeros(batch_size, width, device="meta", requires_grad=True)
    t = torch.zeros((), device="meta")
    parameters = [p for p in flow.parameters() if p.requires_grad]
    there = [*parameters, *([] if noise is None else [noise])]
    with FlopCounterMode(display=False) as forward, SavedTensors(there) as saved:
        slope = field(t, y)
    graph_bytes = saved.now
    with FlopCounterMode(display=False) as backward:
        _differentiate(slope, [y, *parameters])
    return EvaluationCost(
        tuple(shape),
        forward.get_total_flops(),
        backward.get_total_flops(),
        graph_bytes,
        y.untyped_storage().nbytes(),
        0 if noise is None else noise.untyped_storage().nbytes(),
    )


def _differentiate(slope: Tensor, inputs: list[Tensor]) -> None:
    torch.autograd.grad(slope, inputs, torch.ones_like(slope), allow_unused=True)


def matching_flops(model: MultiscaleFlow) -> int:
    """Count a step of flow matching on one sample, its gradient included, as in training_cost.

    Example:
        >>> from rnode_dyn import build_model, load_recipe
        >>> matching_flops(build_model(load_recipe("quickstart")))
        180224
    """
    return sum(_regression_flops(station) for station in model.walk())


def _regression_flops(station: Station) -> int:
    field = deepcopy(station.flow.field).to("meta")
    t, x = torch.zeros(1, device="meta"), torch.zeros(1, *station.shape, device="meta")
    parameters: list[Tensor] = [p for p in field.parameters() if p.requires_grad]
    with FlopCounterMode(display=False) as counter:
        _differentiate(at_times(field, t, x), parameters)
    return counter.get_total_flops()


def _block_cost(
    station: Station, batch_size: int, evaluations: int | None, governed: bool
) -> BlockCost:
    flow, solver = station.flow, station.flow.solver
    adaptive = not isinstance(solver.stepping, FixedStep)
    if (adaptive or governed) and evaluations is not None:
        solver = with_steps(solver, flow.end_time, steps_for(solver, evaluations))
    elif adaptive:
        solver = with_steps(solver, flow.end_time, ASSUMED_STEPS)
    counts = count_solve(solver, flow.end_time)
    cost = evaluation_cost(flow, station.shape, batch_size)
    return BlockCost(cost, counts, adaptive or governed)
