"""In what pieces a batch goes through the solve, and how they are differentiated: what fits, fast.

Pieces that fit can be differentiated through all that the solve computed (six passes of the
convolutions an evaluation); checkpoints need a fraction of the memory, and two passes more.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from rnode_dyn.costs.cost import BlockCost, TrainingCost, training_cost
from rnode_dyn.costs.memory import available_bytes
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.checkpointed import CheckpointedAdjoint
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.solve import Solver

Way = Literal["discrete", "checkpointed"]

# What a piece may keep: half of the memory that is there. On a CPU no more than this is likely to
# be, since larger pieces gain nothing: beyond some 30 MB a tensor, memory goes back each time.
_SHARE = 0.5
_MOST_ON_CPU = 1_500_000_000
# Steps that nobody knows beforehand: so many times those that are assumed must fit, and so many
# are likely.
_SAFETY = 4
_LIKELY = 2
# What one evaluation costs beside its operations, in operations: on a CPU for each layer with
# weights, some 0.4 ms of a core.
_LAYER_ON_CPU = 3e7
_CALL_ON_GPU = 1e10


@dataclass(frozen=True)
class Pieces:
    """How a batch goes through the solve.

    Attributes:
        batch_size: Samples in the batch.
        size: Samples that go through at once.
        way: How every exact gradient is computed; ``None``: as each block's solver says.
        bytes: The memory that the gradient of a piece keeps, as predicted.
        available: The memory that was there, where it is known.
    """

    batch_size: int
    size: int
    way: Way | None
    bytes: int
    available: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the memory that is there is enough, as far as that is known."""
        return self.available is None or self.bytes <= self.available

    def in_words(self) -> str:
        """Return the choice as a line.

        Example:
            >>> Pieces(200, 8, "discrete", 1_260_000_000, 21_000_000_000).in_words()
            '8 of 200 samples at a time, discrete: 1.3 GB for the gradient, of 21.0 GB there'
        """
        way = "" if self.way is None else f", {self.way}"
        there = "" if self.available is None else f", of {self.available / 1e9:.1f} GB there"
        lack = "" if self.fits else ": that is too little"
        return (
            f"{self.size} of {self.batch_size} samples at a time{way}: {self.bytes / 1e9:.2g} GB "
            f"for the gradient{there}{lack}"
        )


def given_pieces(
    model: MultiscaleFlow,
    batch_size: int,
    size: int,
    device: torch.device,
    governed: Collection[RegularizedFlow] = (),
) -> Pieces:
    """Return pieces of a given size, with the memory that they take.

    Args:
        model: The flow.
        batch_size: Samples in a batch.
        size: Samples in a piece.
        device: Where it is trained.
        governed: The blocks whose steps the training chooses.
    """
    kept = training_cost(model, 1, governed=governed).bytes * _width(model)
    return Pieces(batch_size, size, None, size * kept, available_bytes(device))


def choose_pieces(
    model: MultiscaleFlow,
    batch_size: int,
    device: torch.device,
    governed: Collection[RegularizedFlow] = (),
) -> Pieces:
    """Choose the pieces, equal ones, and the way to differentiate them that take the least time.

    What may be chosen must fit into half of the memory that is there. Of adaptive and governed
    solves four times the steps must fit that :func:`training_cost` assumes. On a CPU, where larger
    pieces gain nothing, it takes 1.5 GB at the most, by twice the assumed steps. Where nothing
    fits, it is what takes the least memory.

    Args:
        model: The flow.
        batch_size: Samples in a batch.
        device: Where it is trained.
        governed: The blocks whose steps the training chooses.

    Example:
        >>> from rnode_dyn import build_model, load_recipe
        >>> chosen = choose_pieces(build_model(load_recipe("mnist")), 200, torch.device("meta"))
        >>> chosen.size, chosen.way
        (8, 'discrete')
    """
    available = available_bytes(device)
    fitting: list[tuple[float, Pieces]] = []
    every: list[Pieces] = []
    for way in _ways(model):
        with differentiated_by(model, _SENSITIVITIES.get(way)):
            cost = training_cost(model, 1, governed=governed)
        calls = _cost_of_calls(model, cost, device)
        kept, likely = (
            _with_steps(cost, times).bytes * _width(model) for times in (_SAFETY, _LIKELY)
        )
        for size in _divisors(batch_size):
            pieces = Pieces(batch_size, size, way, size * kept, available)
            every.append(pieces)
            if _has_room(pieces) and (device.type == "cuda" or size * likely <= _MOST_ON_CPU):
                fitting.append((cost.step_flops + calls / size, pieces))
    if not fitting:
        return min(every, key=lambda pieces: pieces.bytes)
    return min(fitting, key=lambda found: found[0])[1]


@contextmanager
def differentiated_by(model: MultiscaleFlow, sensitivity: Sensitivity | None) -> Iterator[None]:
    """Differentiate the training solves of all blocks so; ``None``: as they say themselves."""
    solvers = [block.solver for block in model.blocks]
    for block in model.blocks:
        if sensitivity is not None:
            block.solver = replace(block.solver, sensitivity=sensitivity)
    try:
        yield
    finally:
        for block, solver in zip(model.blocks, solvers, strict=True):
            block.solver = solver


def differentiate_by(model: MultiscaleFlow, way: Way | None) -> None:
    """Differentiate the training solves of all blocks so from now on."""
    for block in model.blocks:
        if way is not None:
            block.solver = replace(block.solver, sensitivity=_SENSITIVITIES[way])


_SENSITIVITIES: dict[Way | None, Sensitivity] = {
    "discrete": DiscreteAdjoint(),
    "checkpointed": CheckpointedAdjoint(),
}


def _ways(model: MultiscaleFlow) -> list[Way | None]:
    """Both exact gradients are the same gradient; any other is a choice that is not ours."""
    exact = all(_is_exact(block.solver) for block in model.blocks)
    return ["discrete", "checkpointed"] if exact else [None]


def _is_exact(solver: Solver) -> bool:
    return isinstance(solver.sensitivity, DiscreteAdjoint | CheckpointedAdjoint)


def _has_room(pieces: Pieces) -> bool:
    return pieces.available is None or pieces.bytes <= _SHARE * pieces.available


def _width(model: MultiscaleFlow) -> int:
    """How many times as long as 32 bits, which costs are counted in, the model's numbers are."""
    return max((p.element_size() // 4 for p in model.parameters()), default=1)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _cost_of_calls(model: MultiscaleFlow, cost: TrainingCost, device: torch.device) -> float:
    """What the calls of a step cost beside their operations, in operations."""
    calls = [_calls(block) for block in cost.blocks]
    if device.type == "cuda":
        return _CALL_ON_GPU * sum(calls)
    layers = [_layers(block.field) for block in model.blocks]
    return _LAYER_ON_CPU * sum(c * n for c, n in zip(calls, layers, strict=True))


def _layers(field: torch.nn.Module) -> int:
    with_weights = (any(True for _ in m.parameters(recurse=False)) for m in field.modules())
    return max(1, sum(with_weights))


def _calls(cost: BlockCost) -> int:
    counts = cost.counts
    return counts.forward + counts.again + counts.differentiated + 2 * cost.nodes


def _with_steps(cost: TrainingCost, times: int) -> TrainingCost:
    """So many times the steps wherever their number is an assumption."""
    blocks = [_spare(block, times) if block.assumed else block for block in cost.blocks]
    return replace(cost, blocks=blocks)


def _spare(block: BlockCost, times: int) -> BlockCost:
    counts = replace(
        block.counts,
        states_kept=times * block.counts.states_kept,
        graphs_kept=times * block.counts.graphs_kept,
    )
    return replace(block, counts=counts)
