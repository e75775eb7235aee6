"""What one evaluation of a block costs: at the stages of its solver, or at a quadrature's nodes."""

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rnode_dyn.costs.saved import SavedTensors
from rnode_dyn.fields.condition import ConditionEmbedding
from rnode_dyn.fields.conditioned import conditioned
from rnode_dyn.fields.own_product import with_own_product
from rnode_dyn.flows.at_nodes import Plan
from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.quadrature import Nodes, Quadrature
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.solve_penalties import StatesPenalty

# Of a part of the span in which a time is drawn: at no fraction where a step is likely to end.
_SOMEWHERE = 0.618


@dataclass(frozen=True)
class EvaluationCost:
    """The cost of evaluating a block's field once, with what is integrated, for a batch.

    Attributes:
        shape: Shape of a sample in the block.
        flops: Operations of the evaluation: field, divergence and penalties, as far as they belong.
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
class NodeCost:
    """Nodes at which the same is evaluated.

    Attributes:
        count: How many.
        evaluation: What each of them costs.
    """

    count: int
    evaluation: EvaluationCost


def training_plan(flow: RegularizedFlow) -> Plan:
    """Return the nodes of a training solve; of random ones, as many that are not."""
    return Plan(_placed(flow.quadrature), _placed(flow.penalty_quadrature))


def node_times(flow: RegularizedFlow) -> list[float]:
    """Return when a training solve passes its nodes."""
    return list(training_plan(flow).over((0.0, flow.end_time)))


def saved_times(flow: RegularizedFlow) -> list[float]:
    """Return when a training solve is read: at its nodes, or where penalties look at states.

    Those that are drawn stand at some place of their parts of the span.
    """
    looked = [p.samples for p in flow.regularizers if isinstance(p, StatesPenalty)]
    somewhere = {(i + _SOMEWHERE) / count for count in looked for i in range(count)}
    return node_times(flow) or sorted(flow.end_time * place for place in somewhere)


def _placed(quadrature: Quadrature | None) -> Nodes | None:
    if quadrature is None or quadrature.nodes is None:
        return None
    return Quadrature("gauss", quadrature.nodes).draw(torch.empty(0))


def stage_cost(flow: RegularizedFlow, shape: Sequence[int], batch_size: int) -> EvaluationCost:
    """Count an evaluation of what a block's training solves for, on shapes alone."""
    plan = training_plan(flow)
    with_penalties = None if plan.log_det is not None else plan.penalties is None
    return _count(flow, tuple(shape), batch_size, with_penalties)


def field_flops(flow: RegularizedFlow, shape: Sequence[int]) -> int:
    """Count the operations of a block's field alone, for one sample, on shapes alone."""
    x = torch.zeros(1, *shape, device="meta")
    field = under_zeros(deepcopy(flow.field).to("meta", torch.float32), x)
    with FlopCounterMode(display=False) as counter:
        field(torch.zeros((), device="meta"), x)
    return counter.get_total_flops()


def node_costs(flow: RegularizedFlow, shape: Sequence[int], batch_size: int) -> list[NodeCost]:
    """Count the evaluations at the nodes of a block's training, on shapes alone."""
    weights = training_plan(flow).over((0.0, flow.end_time)).values()
    counts = {wanted: sum(bool(w.penalties) is wanted for w in weights) for wanted in (True, False)}
    return [
        NodeCost(count, _count(flow, tuple(shape), batch_size, with_penalties))
        for with_penalties, count in counts.items()
        if count
    ]


def _count(
    flow: RegularizedFlow, shape: tuple[int, ...], batch_size: int, with_penalties: bool | None
) -> EvaluationCost:
    """Count an evaluation with the penalties or without; ``None``: without the divergence too."""
    bare = deepcopy(flow).to("meta", torch.float32)
    description = _description(bare)
    if description is None:
        return _OnShapes(bare, shape, batch_size).count(with_penalties)
    return _count_once(_Make(description, bare), shape, batch_size, with_penalties)


@dataclass(frozen=True)
class _Make:
    """A block without numbers. Blocks of the same make cost the same, and are counted once.

    Attributes:
        description: All that it is made of but its solvers.
        flow: The block.
    """

    description: bytes
    flow: RegularizedFlow = field(compare=False)


@lru_cache(maxsize=64)
def _count_once(
    make: _Make, shape: tuple[int, ...], batch_size: int, with_penalties: bool | None
) -> EvaluationCost:
    return _OnShapes(make.flow, shape, batch_size).count(with_penalties)


def _description(bare: RegularizedFlow) -> bytes | None:
    """Write down a block without numbers, unless there are classes or functions of a user in it.

    These can be defined anew under the same name; and some things cannot be written down at all.
    """
    written = io.BytesIO()
    try:
        _Writer(written).dump((bare.field, bare.divergence, bare.regularizers))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return written.getvalue()


class _Writer(pickle.Pickler):
    """Refuses what is not of a library that lasts."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__.split(".")[0] not in _LASTING:
            raise pickle.PicklingError(obj.__qualname__)
        return NotImplemented


_LASTING = {"rnode_dyn", "torch", *sys.stdlib_module_names}


class _OnShapes:
    """A block without numbers, whose evaluations are counted."""

    def __init__(self, flow: RegularizedFlow, shape: Sequence[int], batch_size: int) -> None:
        self.flow = flow
        self.x = torch.zeros(batch_size, *shape, device="meta")
        self.noise = self.flow.divergence.draw(self.x)
        self.whole = AugmentedField(
            with_own_product(under_zeros(self.flow.field, self.x), self.x),
            shape,
            self.flow.divergence,
            self.noise,
            self.flow.regularizers,
            1,
        )

    def count(self, with_penalties: bool | None) -> EvaluationCost:
        """Count one with the penalties or without; ``None``: of the field alone."""
        return self.state() if with_penalties is None else self.augmented(with_penalties)

    def augmented(self, with_penalties: bool) -> EvaluationCost:
        """Count one of the field, the divergence and the penalties."""
        field = self.whole if with_penalties else self.whole.without_penalties()
        return self._count(field, (field.channels + self.x[0].numel(),))

    def state(self) -> EvaluationCost:
        """Count one of the field alone."""
        return self._count(self.whole.field, self.x.shape[1:])

    def _count(
        self, field: Callable[[Tensor, Tensor], Tensor], shape: Sequence[int]
    ) -> EvaluationCost:
        y = torch.zeros(len(self.x), *shape, device="meta", requires_grad=True)
        parameters = [p for p in self.flow.parameters() if p.requires_grad]
        noise = [] if self.noise is None else [self.noise]
        with (
            FlopCounterMode(display=False) as forward,
            SavedTensors([*parameters, *noise]) as saved,
        ):
            slope = field(torch.zeros((), device="meta"), y)
        graph_bytes = saved.now
        with FlopCounterMode(display=False) as backward:
            differentiate(slope, [y, *parameters])
        return EvaluationCost(
            tuple(self.x.shape[1:]),
            forward.get_total_flops(),
            backward.get_total_flops(),
            graph_bytes,
            y.untyped_storage().nbytes(),
            sum(tensor.untyped_storage().nbytes() for tensor in noise),
        )


def under_zeros(field: nn.Module, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a field as a solve evaluates it, under conditions of zeros where it takes any.

    What a field makes of its condition beforehand is made once a solve, and not counted.
    """
    embeddings = (part for part in field.modules() if isinstance(part, ConditionEmbedding))
    embedding = next(embeddings, None)
    zeros = None if embedding is None else embedding.zeros(len(x), x.device)
    return conditioned(field, zeros, x)


def differentiate(slope: Tensor, inputs: list[Tensor]) -> None:
    """Differentiate by these inputs, for the counting's sake."""
    torch.autograd.grad(slope, inputs, torch.ones_like(slope), allow_unused=True)
