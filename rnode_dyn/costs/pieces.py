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

# What a piece may keep: half of the memory that is there. On a CPU no more than this, since larger
# pieces gain nothing there: beyond some 30 MB a tensor, memory goes back to the system each time.
_SHARE = 0.5
_MOST_ON_CPU = 1_500_000_000
# Steps that nobody knows beforehand: so many times those that are assumed must fit.
_SAFETY = 4
# What one evaluation costs beside its operations, in operations: some 1.5 ms of a CPU's core.
_CALL_ON_CPU = 1e8
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

    What may be chosen must fit into half of the memory that is there, and on a CPU into 1.5 GB.
    Where nothing fits, it is what takes the least memory. Of adaptive and governed solves four
    times the steps must fit that :func:`training_cost` assumes.

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
    call = _CALL_ON_GPU if device.type == "cuda" else _CALL_ON_CPU
    fitting: list[tuple[float, Pieces]] = []
    every: list[Pieces] = []
    for way in _ways(model):
        with differentiated_by(model, _SENSITIVITIES.get(way)):
            cost = training_cost(model, 1, governed=governed)
        kept = _with_spare_steps(cost).bytes * _width(model)
        for size in _divisors(batch_size):
            pieces = Pieces(batch_size, size, way, size * kept, available)
            every.append(pieces)
            if pieces.bytes <= _budget(available, device):
                fitting.append((cost.step_flops + call * _calls(cost) / size, pieces))
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


def _budget(available: int | None, device: torch.device) -> float:
    there = float("inf") if available is None else _SHARE * available
    return there if device.type == "cuda" else min(there, _MOST_ON_CPU)


def _width(model: MultiscaleFlow) -> int:
    """How many times as long as 32 bits, which costs are counted in, the model's numbers are."""
    return max((p.element_size() // 4 for p in model.parameters()), default=1)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _calls(cost: TrainingCost) -> int:
    counts = (block.counts for block in cost.blocks)
    at_stages = sum(c.forward + c.again + c.differentiated for c in counts)
    return at_stages + 2 * sum(block.nodes for block in cost.blocks)


def _with_spare_steps(cost: TrainingCost) -> TrainingCost:
    return replace(
        cost, blocks=[_spare(block) if block.assumed else block for block in cost.blocks]
    )


def _spare(block: BlockCost) -> BlockCost:
    counts = replace(
        block.counts,
        states_kept=_SAFETY * block.counts.states_kept,
        graphs_kept=_SAFETY * block.counts.graphs_kept,
    )
    return replace(block, counts=counts)
