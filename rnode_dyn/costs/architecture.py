"""The shape of a model, for people as a tree and for machines as figures."""

import math
from collections.abc import Collection, Iterable
from typing import Any

from rich.text import Text
from rich.tree import Tree
from torch import nn

from rnode_dyn.costs.evaluations import node_times, saved_times
from rnode_dyn.costs.probe import count_solve
from rnode_dyn.flows.end_time import Uniform
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.solve import Solver
from rnode_dyn.numerics.stepping.fixed import FixedStep


def describe_model(
    model: MultiscaleFlow, governed: Collection[RegularizedFlow] = ()
) -> dict[str, Any]:
    """Return a model's figures.

    Args:
        model: The flow.
        governed: Its blocks whose steps the training chooses.

    Returns:
        ``parameters``, ``scales``, ``continuous_blocks``, ``latent_shapes``; of each block its
        weighted ``penalties`` and its ``end_times``, one or two between which it is drawn; and
        ``evaluations_per_forward`` of one training pass, where ends are drawn of one that ends in
        their middle: ``None`` where steps are adaptive, or governed.
    """
    evaluations = [_known_evaluations(block, governed) for block in model.blocks]
    known = [count for count in evaluations if count is not None]
    return {
        "parameters": count_parameters(model),
        "scales": len(model.scales),
        "continuous_blocks": len(model.blocks),
        "evaluations_per_forward": sum(known) if len(known) == len(evaluations) else None,
        "event_shape": list(model.event_shape),
        "latent_shapes": [list(shape) for shape in model.latent_shapes],
        "penalties": [_weights(block) for block in model.blocks],
        "end_times": [_ends(block) for block in model.blocks],
    }


def _weights(flow: RegularizedFlow) -> dict[str, float]:
    return {r.name: r.weight for r in flow.regularizers if r.weight > 0}


def _ends(flow: RegularizedFlow) -> list[float]:
    end = flow.end
    return [end.low, end.high] if isinstance(end, Uniform) else [flow.end_time]


def _known_evaluations(flow: RegularizedFlow, governed: Collection[RegularizedFlow]) -> int | None:
    return None if flow in governed else _evaluations(flow)


def _evaluations(flow: RegularizedFlow) -> int | None:
    """Evaluations of a training pass, those at the nodes of a quadrature included."""
    count, times = evaluations_per_solve(flow.solver, flow.end_time), saved_times(flow)
    if count is None or not times:
        return count
    return count_solve(flow.solver, flow.end_time, times).forward + len(node_times(flow))


def evaluations_per_solve(solver: Solver, end_time: float) -> int | None:
    """How often one solve evaluates the field; ``None`` where that depends on the data.

    Example:
        >>> from rnode_dyn import RK4
        >>> evaluations_per_solve(Solver(RK4(), FixedStep(0.25)), end_time=1.0)
        16
    """
    algorithm, stepping = solver.algorithm, solver.stepping
    if not (isinstance(stepping, FixedStep) and isinstance(algorithm, ExplicitRungeKutta)):
        return None
    tableau, steps = algorithm.tableau, stepping.count((0.0, end_time))
    # First same as last: every step but the first takes one slope over.
    return steps * tableau.stages - (steps - 1) * tableau.first_same_as_last


def architecture_tree(
    name: str, model: MultiscaleFlow, governed: Collection[RegularizedFlow] = ()
) -> Tree:
    """Draw the model: scales, blocks with shapes and parameters, splits."""
    figures = describe_model(model)
    size = f"  {_shape(model.event_shape)}  {figures['parameters']:,} parameters"
    tree = Tree(Text.assemble((name, "bold"), size))
    for transform in model.preprocess.steps:
        tree.add(Text(str(transform), "dim"))
    for line in _said_of_blocks(model):
        tree.add(Text(line, "dim"))
    stations = iter(model.walk())
    for number, scale in enumerate(model.scale_list()):
        branch = tree.add(f"scale {number}")
        _add_scale(branch, scale, stations, governed)
        if scale.split:
            branch.add(f"split: {_shape(model.latent_shapes[number])} leaves")
    tree.add(f"latent: {' '.join(_shape(shape) for shape in model.latent_shapes)}")
    return tree


def _said_of_blocks(model: MultiscaleFlow) -> list[str]:
    """What is penalised, and when flows end if that is drawn; each once, whatever the block."""
    lines = [
        f"penalties: {_listed(r for r in b.regularizers if r.weight > 0)}" for b in model.blocks
    ]
    drawn = [b.end for b in model.blocks if isinstance(b.end, Uniform)]
    lines += [f"end time: drawn from {end.low:g} to {end.high:g} in training" for end in drawn]
    return list(dict.fromkeys(lines))


def _listed(penalties: Iterable[Regularizer]) -> str:
    return ", ".join(map(str, penalties)) or "none"


def _add_scale(
    branch: Tree, scale: Scale, stations: Any, governed: Collection[RegularizedFlow]
) -> None:
    for step in scale.steps:
        if isinstance(step, RegularizedFlow):
            branch.add(_block(step, next(stations).shape, step in governed))
        else:
            branch.add("squeeze")


def _block(flow: RegularizedFlow, shape: tuple[int, ...], governed: bool) -> str:
    evaluations = _evaluations(flow)
    cost = "adaptive steps" if evaluations is None else f"{evaluations} evaluations"
    cost = "auto steps" if governed else cost
    name = type(flow.field).__name__
    return (
        f"block {_shape(shape)}  {name}  {count_parameters(flow):,} parameters  "
        f"{flow.solver.algorithm.name}, {cost}{_nodes(flow)}"
    )


def _nodes(flow: RegularizedFlow) -> str:
    count = len(node_times(flow))
    return f", {count} of them with products, at nodes" if count else ""


def count_parameters(module: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if math.prod(shape) else "nothing"
