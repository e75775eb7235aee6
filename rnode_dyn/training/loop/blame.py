"""Which block of a flow is to blame for a step that is not sound, and how it was solved."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from rnode_dyn.evaluation.protocol import solver_in_words
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.numerics.checks import checked_at_once
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.loop.step_figures import Part, StepFigures


@dataclass
class _Passage:
    """What was seen of a pass through a block."""

    arrived: bool = False
    finite: bool = False
    moved: float = 0.0


@dataclass(frozen=True)
class Blame:
    """A block, and what is wrong with it.

    Attributes:
        block: Its number, from 0.
        words: The block, its solver and what is wrong, in words.
        severe: Whether something is wrong with it beyond doubt.
    """

    block: int
    words: str
    severe: bool = True


def find_blame(
    model: MultiscaleFlow, step: StepFigures, pass_again: Callable[[Part], Any]
) -> Blame | None:
    """Find the block where a step went wrong.

    Args:
        model: The flow, with the step's gradients.
        step: The step: the first of its parts with a severe fault tells, if any has one.
        pass_again: Takes a part's data through the flow once more, with the same noise.
    """
    if step.gradient_broken is not None:
        return _where_the_gradient_broke(model, step.gradient_broken)
    found = None
    for part in step.parts:
        found = blame(model, partial(pass_again, part))
        if found is not None and found.severe:
            break
    return found


def _where_the_gradient_broke(model: MultiscaleFlow, error: SolverError) -> Blame | None:
    """The last block without a gradient, which comes from the last block to the first."""
    without = [
        number
        for number, block in enumerate(model.blocks)
        if any(weight.grad is None for weight in block.parameters())
    ]
    return _words(model, without[-1], str(error)) if without else None


def blame(model: MultiscaleFlow, pass_again: Callable[[], Any]) -> Blame | None:
    """Find the block where a step went wrong, by one more pass without a gradient.

    It is the first that does not arrive or whose result is not finite; else the first with a
    gradient that is not finite; else the one that changes the log-density most.

    Args:
        model: The flow, with its gradients.
        pass_again: Takes the step's data through it once more, with the same noise.

    Returns:
        The block; ``None`` where nothing went through any, as in flow matching.
    """
    seen, error = _watched_pass(model, pass_again)
    for number, passage in enumerate(seen):
        if passage is not None and not passage.arrived:
            solver = solver_in_words(model.blocks[number].active_solver)
            return Blame(number, f"block {number} ({solver}): its solve broke down, {error}")
        if passage is not None and not passage.finite:
            return _words(model, number, "its result is not finite")
    for number, block in enumerate(model.blocks):
        name = _not_finite_gradient(block)
        if name is not None:
            return _words(model, number, f"the gradient of its {name} is not finite")
    moved = {k: passage.moved for k, passage in enumerate(seen) if passage is not None}
    if not moved:
        return None
    worst = max(moved, key=moved.__getitem__)
    what = f"its log-determinants of up to {moved[worst]:.3g} are the largest"
    return _words(model, worst, what, severe=False)


def _watched_pass(
    model: MultiscaleFlow, pass_again: Callable[[], Any]
) -> tuple[list[_Passage | None], SolverError | None]:
    """What each block did, and why the first that did not arrive did not."""
    passages: dict[nn.Module, _Passage] = {}

    def enter(block: nn.Module, inputs: tuple) -> None:
        passages[block] = _Passage()

    def leave(block: nn.Module, inputs: tuple, result: FlowResult) -> None:
        finite = bool(torch.isfinite(result.z).all() and torch.isfinite(result.log_det).all())
        passages[block] = _Passage(True, finite, float(result.log_det.abs().max()))

    hooks = [block.register_forward_pre_hook(enter) for block in model.blocks]
    hooks += [block.register_forward_hook(leave) for block in model.blocks]
    broken = None
    try:
        with torch.no_grad(), checked_at_once():
            pass_again()
    except SolverError as error:
        broken = error
    finally:
        for hook in hooks:
            hook.remove()
    return [passages.get(block) for block in model.blocks], broken


def _not_finite_gradient(block: nn.Module) -> str | None:
    return next(
        (
            name.removeprefix("vf.vf.")
            for name, weight in block.named_parameters()
            if weight.grad is not None and not bool(torch.isfinite(weight.grad).all())
        ),
        None,
    )


def _words(model: MultiscaleFlow, number: int, what: str, severe: bool = True) -> Blame:
    flow = model.blocks[number]
    stats = flow.stats
    return Blame(
        number,
        f"block {number} ({solver_in_words(flow.active_solver)}; {stats.nfe} evaluations, "
        f"{stats.accepted} accepted and {stats.rejected} rejected steps): {what}",
        severe,
    )
