"""How fast this machine computes what a recipe's run consists of."""

from rnode_dyn.bench.machine import as_trained, choose_threads, piece_size
from rnode_dyn.bench.measure import Step, measure_speed, size_of_a_second
from rnode_dyn.costs.stages import likelihood_batch_size
from rnode_dyn.costs.text import Rate
from rnode_dyn.costs.whole import EVALUATION
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.loop.stages import build_objective
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.likelihood import Likelihood


def measure_rates(recipe: Recipe) -> dict[str, Rate]:
    """Time the steps of every stage of a training, and an evaluation of its model.

    Steps are timed in the recipe's precision and with its threads, an evaluation in single
    precision, as the test samples are scored. Flow matching on the flow's own pairs has no rate:
    what it takes depends on the stage before it.

    Args:
        recipe: The recipe; its data are not read.

    Raises:
        RecipeError: if this machine has not the device that the recipe asks for.

    Returns:
        A rate for each objective, and one for ``EVALUATION``.
    """
    event, found = describe_event(recipe), {}
    with as_trained(recipe) as (model, fabric):
        objectives = _objectives(recipe, model)
        first, size = next(iter(objectives.values()))
        step = Step(model, event, first, fabric.autocast)
        choose_threads(recipe, fabric.device, step.on(size_of_a_second(step, size)))
        for name, (objective, size) in objectives.items():
            found[name] = measure_speed(model, event, size, objective, autocast=fabric.autocast)
        whole = model.float() if recipe.train.precision == "bf16-true" else model
        size = recipe.data.eval_batch_size or recipe.data.batch_size
        found[EVALUATION] = measure_speed(whole, event, size, gradient=False)
    return {name: Rate(s.flops_per_second, s.in_words()) for name, s in found.items()}


def _objectives(recipe: Recipe, model: MultiscaleFlow) -> dict[str, tuple[Objective, int]]:
    """Return what each kind of stage minimises, and on how many samples at once, in their order."""
    found = {
        stage.objective: (build_objective(stage), recipe.batch_size(stage))
        for stage in recipe.train.stages
        if stage.coupling != "reflow"
    }
    size = piece_size(recipe, model, likelihood_batch_size(recipe))
    return {**found, "likelihood": (Likelihood(), size)}
