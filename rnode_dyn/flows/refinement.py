"""How well the blocks of a flow are solved: n steps against 2n, block by block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.quadrature import Quadrature
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.seeding import random_state_kept, reseed
from rnode_dyn.numerics.stepping.fixed import FixedStep


@dataclass(frozen=True)
class Refinement:
    """What a flow gains from twice the steps.

    Attributes:
        gaps: For every block its part in what twice the steps would change of log p: the mean of
            the absolute values over the batch, in nats a sample, is the sum of the gaps. Infinite
            where a solve breaks down, and for the blocks behind it.
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
    model: MultiscaleFlow,
    x: Tensor,
    blocks: Sequence[RegularizedFlow],
    seed: int,
    condition: Tensor | None = None,
) -> Refinement:
    """Solve the flow at the training solver's steps and at twice as many, with the same noise.

    At twice the steps all is integrated at the stages, so that the error of fixed nodes, which
    training could learn as it could that of the steps, is in the gap. Nodes that are drawn for each
    solve have none that can be learned, and what is random of them is left out: both are solved at
    the stages.

    What that changes of log p is known of the whole flow alone: the error of one block goes
    through all that follow. It is parted by what each block changes on its own, from the same
    state, as if what it passes on were the latent variable.

    Args:
        model: The flow.
        x: Data, ``(batch, *event)``.
        blocks: The blocks to look at: those with fixed steps.
        seed: Seed of the noise.
        condition: Of a conditional flow, a row a sample.
    """
    was_training = model.training
    model.train()
    try:
        with random_state_kept(x.device), _at_stages(model.blocks, only_random=True):
            # Blocks that are not looked at draw noise too.
            reseed(x.device, seed)
            given = handed(model, condition)
            coarse = _solved(model, x, blocks, seed, given)
            reseed(x.device, seed)
            with _doubled(blocks), _at_stages(model.blocks):
                fine = _solved(model, x, blocks, seed, given)
            alone = [_gap(flow, coarse, fine, seed) for flow in blocks]
    finally:
        model.train(was_training)
    whole = float((coarse.log_prob - fine.log_prob).abs().mean())
    return Refinement(_parted(whole, alone), fine.log_prob)


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


@contextmanager
def _at_stages(blocks: Sequence[RegularizedFlow], only_random: bool = False) -> Iterator[None]:
    """Integrate log-determinants at the stages; the penalties are not looked at, and go along."""
    before = [(flow.quadrature, flow.penalty_quadrature) for flow in blocks]
    for flow in blocks:
        if flow.quadrature.is_random or not only_random:
            flow.quadrature = Quadrature()
        flow.penalty_quadrature = None
    try:
        yield
    finally:
        for flow, (quadrature, of_penalties) in zip(blocks, before, strict=True):
            flow.quadrature, flow.penalty_quadrature = quadrature, of_penalties


class _Solved(NamedTuple):
    """A pass through the flow: log p, and what went into the blocks and came out."""

    log_prob: Tensor
    passed: dict[nn.Module, "_Passage"]


class _Passage(NamedTuple):
    """What went into a block, what that was conditional on, and what came out."""

    x: Tensor
    given: dict[str, Any]
    result: FlowResult


def _solved(
    model: MultiscaleFlow,
    x: Tensor,
    blocks: Sequence[RegularizedFlow],
    seed: int,
    condition: dict[str, Any],
) -> _Solved:
    passed: dict[nn.Module, _Passage] = {}

    def begin(flow: nn.Module, inputs: tuple) -> None:
        reseed(x.device, seed)

    def keep(flow: nn.Module, inputs: tuple, given: dict[str, Any], result: FlowResult) -> None:
        passed[flow] = _Passage(inputs[0], given, result)

    hooks = [flow.register_forward_pre_hook(begin) for flow in blocks]
    hooks += [flow.register_forward_hook(keep, with_kwargs=True) for flow in blocks]
    try:
        found = model(x, **condition)
        return _Solved(standard_normal_log_prob(found.z) + found.log_det, passed)
    except SolverError:
        return _Solved(x.new_full((len(x),), nan), passed)
    finally:
        for hook in hooks:
            hook.remove()


def _gap(flow: RegularizedFlow, coarse: _Solved, fine: _Solved, seed: int) -> float:
    """What a block changes on its own at twice the steps, from the state of the fine solve."""
    if flow not in fine.passed:
        return inf
    x, given, at_2n = fine.passed[flow]
    begun = coarse.passed.get(flow)
    if begun is not None and torch.equal(begun.x, x):
        at_n = begun.result
    else:
        reseed(x.device, seed)
        try:
            at_n = flow(x, **given)
        except SolverError:
            return inf
    moved = (at_n.log_det - at_2n.log_det) + (
        standard_normal_log_prob(at_n.z) - standard_normal_log_prob(at_2n.z)
    )
    gap = float(moved.abs().mean())
    return gap if isfinite(gap) else inf


def _parted(whole: float, alone: list[float]) -> list[float]:
    """Part the gap of the whole flow as the blocks' own gaps stand to each other."""
    if inf in alone:
        return alone
    if not isfinite(whole):
        return [inf for _ in alone]
    total = sum(alone)
    return [whole * (gap / total if total else 1 / len(alone)) for gap in alone]
