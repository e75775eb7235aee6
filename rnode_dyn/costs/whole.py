"""How long a whole run takes: its training, and what it validates, measures and draws."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from rnode_dyn.costs.architecture import evaluations_per_solve
from rnode_dyn.costs.epoch import held_out_sizes, hours
from rnode_dyn.costs.evaluations import field_flops, stage_cost
from rnode_dyn.costs.text import Rate, clock
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow, Station
from rnode_dyn.flows.quadrature import Quadrature
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.recipe.schema import Recipe, StageRecipe

ASSUMED_EVALUATIONS = 100
"""Evaluations of an adaptive evaluation through the whole flow: about those of dopri5 at 1e-5."""

EVALUATION = "evaluation"
"""The name of the rate at which samples are scored and drawn."""

VALIDATION = "validation"
"""The name of the rate at which they are scored while a flow trains, where it is another."""

_FEWEST = 13
_STRIP_ROWS = 8


def run_hours(
    recipe: Recipe,
    model: MultiscaleFlow,
    event: Event,
    stages: list[dict[str, Any]],
    samples: int | None,
    rates: Mapping[str, Rate],
) -> dict[str, float] | None:
    """Return the hours of a run and of its parts; ``None`` where one of them is not known.

    Args:
        recipe: The recipe.
        model: Its flow.
        event: What one sample looks like.
        stages: What :func:`~rnode_dyn.costs.stages.stage_figures` says of the training.
        samples: Samples in an epoch, where they are known.
        rates: How fast a machine computes each objective, an evaluation and a validation: as the
            likelihood where that is not known.
    """
    training, sizes = [stage["hours"] for stage in stages], held_out_sizes(recipe.data)
    if None in training or sizes is None or "likelihood" not in rates:
        return None
    validation, test = sizes
    score, draw = _flops_of_evaluation(model)
    looks = sum(_validations(recipe, stage, samples) for stage in recipe.train.stages)
    scored = {"validation": looks * validation, "test": test * (2 if event.levels else 1)}
    rate = rates.get(EVALUATION, rates["likelihood"])
    of = {"validation": rates.get(VALIDATION, rate), "test": rate}
    found = {n: hours(count, score, of[n].flops_per_second) for n, count in scored.items()}
    found["pictures"] = hours(_drawn(recipe, event), draw, rate.flops_per_second)
    parts = {"training": sum(training), **found}
    return {"all": sum(parts.values()), **parts}


def run_line(found: Mapping[str, float] | None) -> list[str]:
    """Return a line that says how long a run takes; none where that is not known.

    Example:
        >>> run_line({"all": 2.0, "training": 1.5, "test": 0.5})
        ['the whole run: 2 h (training 1.5 h, test 30 min)']
    """
    if found is None:
        return []
    parts = [f"{name} {clock(3600 * h)}" for name, h in found.items() if name != "all" and h]
    return [f"the whole run: {clock(3600 * found['all'])} ({', '.join(parts)})"]


def _flops_of_evaluation(model: MultiscaleFlow) -> tuple[int, int]:
    """Operations of scoring a sample by the evaluation solver, and of drawing one."""
    stations = list(model.walk())
    counts = [_evaluations(station.flow, len(stations)) for station in stations]
    score = sum(n * _score_flops(s) for n, s in zip(counts, stations, strict=True))
    draws = (n * field_flops(s.flow, s.shape) for n, s in zip(counts, stations, strict=True))
    return score, sum(draws)


def _evaluations(flow: RegularizedFlow, blocks: int) -> int:
    solver = flow.solver if flow.eval_solver is None else flow.eval_solver
    known = evaluations_per_solve(solver, flow.end_time)
    return max(_FEWEST, round(ASSUMED_EVALUATIONS / blocks)) if known is None else known


def _score_flops(station: Station) -> int:
    flow = deepcopy(station.flow)
    flow.divergence = flow.divergence if flow.eval_divergence is None else flow.eval_divergence
    flow.quadrature, flow.penalty_quadrature = Quadrature(), None
    return stage_cost(flow, station.shape, 1).flops


def _validations(recipe: Recipe, stage: StageRecipe, samples: int | None) -> int:
    """How often a stage validates: every so many steps or epochs, and at its end."""
    every, batch = recipe.train.validate_every_steps, recipe.batch_size(stage)
    per_epoch = None if samples is None else max(1, samples // (batch * recipe.train.accumulate))
    steps = stage.max_steps
    if stage.epochs is not None and per_epoch is not None:
        steps = min(steps or stage.epochs * per_epoch, stage.epochs * per_epoch)
    each = every or (None if per_epoch is None else per_epoch * recipe.train.validate_every)
    return 1 if steps is None or each is None else max(1, -(-steps // each))


def _drawn(recipe: Recipe, event: Event) -> int:
    shown = len(event.shape) == 3 and event.levels is not None
    return recipe.samples.count * len(recipe.samples.temperatures) + _STRIP_ROWS if shown else 0
