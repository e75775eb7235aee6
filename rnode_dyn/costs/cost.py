"""What a training step costs: operations and memory, counted before anything is paid."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rnode_dyn.costs.evaluations import (
    EvaluationCost,
    NodeCost,
    differentiate,
    field_flops,
    node_costs,
    saved_times,
    stage_cost,
    under_zeros,
)
from rnode_dyn.costs.probe import SolveCounts, count_solve, steps_for, with_steps
from rnode_dyn.fields.at_times import at_times
from rnode_dyn.flows.multiscale import MultiscaleFlow, Station
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.stepping.fixed import FixedStep

ASSUMED_STEPS = 4
"""Steps of an adaptive training solve where nothing is known: those of the paper's step of 0.25."""

ASSUMED_GOVERNED_STEPS = 6
"""Steps that a governor gives a whole flow, where its blocks do not begin with more."""


@dataclass(frozen=True)
class BlockCost:
    """The cost of a block in one training step.

    Attributes:
        evaluation: The cost of one evaluation at the stages.
        counts: How many there are, and what is kept of them.
        assumed: Whether the number of steps is an assumption.
        at_nodes: What is evaluated beside them, at the nodes of a quadrature.
    """

    evaluation: EvaluationCost
    counts: SolveCounts
    assumed: bool
    at_nodes: Sequence[NodeCost] = ()

    @property
    def nodes(self) -> int:
        """Evaluations at nodes, each of which is differentiated."""
        return sum(node.count for node in self.at_nodes)

    @property
    def forward_flops(self) -> int:
        """Operations of the forward pass."""
        at_nodes = sum(node.count * node.evaluation.flops for node in self.at_nodes)
        return self.evaluation.flops * self.counts.forward + at_nodes

    @property
    def step_flops(self) -> int:
        """Operations of the forward pass and its gradient."""
        again = self.evaluation.flops * self.counts.again
        gradient = self.evaluation.gradient_flops * self.counts.differentiated
        at_nodes = sum(node.count * node.evaluation.gradient_flops for node in self.at_nodes)
        return self.forward_flops + again + gradient + at_nodes

    @property
    def kept_bytes(self) -> int:
        """What the forward solve keeps for the gradient."""
        states = self.counts.states_kept * self.evaluation.state_bytes
        graphs = self.counts.graphs_kept * self.evaluation.graph_bytes
        return states + graphs + self._bytes_of_nodes + self.evaluation.noise_bytes

    @property
    def _bytes_of_nodes(self) -> int:
        return sum(node.count * node.evaluation.graph_bytes for node in self.at_nodes)

    @property
    def added_bytes(self) -> int:
        """The most that the gradient needs beside what was kept.

        The nodes are differentiated first, and what was kept of them is let go by then.
        """
        added = self.counts.graphs_added * self.evaluation.graph_bytes
        return max(0, added - self._bytes_of_nodes)

    def per_sample(self, batch_size: int) -> dict[str, Any]:
        """Return the figures of one sample of a batch as plain values."""
        costs = asdict(self.evaluation)
        shape = costs.pop("shape")
        return {
            "shape": list(shape),
            **{name: round(cost / batch_size) for name, cost in costs.items()},
            "evaluations": self.counts.forward + self.nodes,
            "evaluations_for_gradient": self.counts.again,
            "differentiated": self.counts.differentiated + self.nodes,
            "nodes": self.nodes,
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
            makes, and of governed ones six in the whole flow, or those that they begin with where
            that is more. Blocks with fixed steps take no notice.
        governed: The blocks whose steps the training chooses.

    Example:
        >>> from rnode_dyn import build_model, load_recipe
        >>> cost = training_cost(build_model(load_recipe("quickstart")))
        >>> cost.blocks[0].counts.forward, cost.forward_flops
        (16, 2097152)
    """
    share = round(ASSUMED_GOVERNED_STEPS / max(1, len(governed)))
    blocks = [
        _block_cost(station, batch_size, evaluations, share if station.flow in governed else None)
        for station in model.walk()
    ]
    return TrainingCost(batch_size, blocks)


def matching_flops(model: MultiscaleFlow) -> int:
    """Count a step of flow matching on one sample, its gradient included, as in training_cost.

    Example:
        >>> from rnode_dyn import build_model, load_recipe
        >>> matching_flops(build_model(load_recipe("quickstart")))
        180224
    """
    return sum(_regression_flops(station) for station in model.walk())


def reflow_flops(model: MultiscaleFlow, steps: int = 8) -> int:
    """Count what a teacher's solve adds to a step of matching again, on one sample.

    Args:
        model: The flow, of which the teacher is a copy.
        steps: Runge-Kutta steps of order 4 through each block.
    """
    return sum(4 * steps * field_flops(s.flow, s.shape) for s in model.walk())


def _regression_flops(station: Station) -> int:
    field = deepcopy(station.flow.field).to("meta")
    t, x = torch.zeros(1, device="meta"), torch.zeros(1, *station.shape, device="meta")
    parameters: list[Tensor] = [p for p in field.parameters() if p.requires_grad]
    with FlopCounterMode(display=False) as counter:
        differentiate(at_times(under_zeros(field, x), t, x), parameters)
    return counter.get_total_flops()


def _block_cost(
    station: Station, batch_size: int, evaluations: int | None, governed: int | None
) -> BlockCost:
    """Count a block's cost; ``governed`` are the steps that a governor may come to."""
    flow, solver = station.flow, station.flow.solver
    stepping, is_governed = solver.stepping, governed is not None
    adaptive = not isinstance(stepping, FixedStep)
    if (adaptive or is_governed) and evaluations is not None:
        solver = with_steps(solver, flow.end_time, steps_for(solver, evaluations))
    elif adaptive:
        solver = with_steps(solver, flow.end_time, ASSUMED_STEPS)
    elif governed is not None:
        begun = stepping.count((0.0, flow.end_time))
        solver = with_steps(solver, flow.end_time, max(governed, begun))
    counts = count_solve(solver, flow.end_time, saved_times(flow))
    cost = stage_cost(flow, station.shape, batch_size)
    at_nodes = node_costs(flow, station.shape, batch_size)
    return BlockCost(cost, counts, adaptive or is_governed, at_nodes)
