"""How well the blocks of a flow are solved: n steps against 2n, block by block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, isfinite, nan

import torch
from torch import Tensor, nn

from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.random_state import cuda_devices_of
from rnode_dyn.numerics.stepping import FixedStep


@dataclass(frozen=True)
class Refinement:
    """What a flow gains from twice the steps.

    Attributes:
        gaps: For every block, by how much its log-determinant and its state would move log p at
            twice the steps: the mean of the absolute values over the batch, in nats a sample;
            infinite where a solve breaks down, and for the blocks behind it.
        log_prob: Log-density at twice the steps, in nats, ``(batch,)``; NaN where it breaks down.
    """

    gaps: list[float]
    log_prob: Tensor


def step_count(flow: RegularizedFlow) -> int:
    """How many steps the training solver of a block makes.

    Raises:
        TypeError: if its steps are adaptive.
    """
    stepping = flow.solver.stepping
    if not isinstance(stepping, FixedStep):
        raise TypeError(f"the block solves with {stepping}: only fixed steps can be counted.")
    return stepping.count((0.0, flow.end_time))


def set_step_count(flow: RegularizedFlow, steps: int) -> None:
    """Let the training solver of a block make so many equal steps."""
    flow.solver = replace(flow.solver, stepping=FixedStep(flow.end_time / steps))


@torch.no_grad()
def refine(
    model: MultiscaleFlow, x: Tensor, blocks: Sequence[RegularizedFlow], seed: int
) -> Refinement:
    """Solve the flow at twice the training solver's steps, and each block at just as many.

    Both solutions of a block start from the same state and see the same noise of the divergence.

    Args:
        model: The flow.
        x: Data, ``(batch, *event)``.
        blocks: The blocks to look at: those with fixed steps.
        seed: Seed of the noise.
    """
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng(cuda_devices_of(x.device)):
            # Blocks that are not looked at draw noise too.
            torch.manual_seed(seed)
            with _doubled(blocks):
                log_prob, passed = _recorded(model, x, blocks, seed)
            gaps = [_gap(flow, *passed[flow], seed) if flow in passed else inf for flow in blocks]
    finally:
        model.train(was_training)
    return Refinement(gaps, log_prob)


@contextmanager
def _doubled(blocks: Sequence[RegularizedFlow]) -> Iterator[None]:
    """Solve at twice the steps."""
    solvers = [flow.solver for flow in blocks]
    for flow, count in [(flow, step_count(flow)) for flow in blocks]:
        set_step_count(flow, 2 * count)
    try:
        yield
    finally:
        for flow, solver in zip(blocks, solvers, strict=True):
            flow.solver = solver


def _recorded(
    model: MultiscaleFlow, x: Tensor, blocks: Sequence[RegularizedFlow], seed: int
) -> tuple[Tensor, dict[RegularizedFlow, tuple[Tensor, FlowResult]]]:
    """Return the log-density of ``x``, and what went into the blocks and came out."""
    passed: dict[RegularizedFlow, tuple[Tensor, FlowResult]] = {}

    def reseed(flow: nn.Module, inputs: tuple) -> None:
        torch.manual_seed(seed)

    def keep(flow: nn.Module, inputs: tuple, result: FlowResult) -> None:
        passed[flow] = (inputs[0], result)  # type: ignore[index]

    hooks = [flow.register_forward_pre_hook(reseed) for flow in blocks]
    hooks += [flow.register_forward_hook(keep) for flow in blocks]
    try:
        found = model(x)
        return standard_normal_log_prob(found.z) + found.log_det, passed
    except SolverError:
        return x.new_full((len(x),), nan), passed
    finally:
        for hook in hooks:
            hook.remove()


def _gap(flow: RegularizedFlow, x: Tensor, fine: FlowResult, seed: int) -> float:
    torch.manual_seed(seed)
    try:
        coarse = flow(x)
    except SolverError:
        return inf
    moved = (coarse.log_det - fine.log_det) + (
        standard_normal_log_prob(coarse.z) - standard_normal_log_prob(fine.z)
    )
    gap = float(moved.abs().mean())
    return gap if isfinite(gap) else inf
