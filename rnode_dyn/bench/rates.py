"""How fast this machine computes what a recipe's run consists of."""

from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer

from rnode_dyn.bench.machine import as_trained, chooses_threads, piece_size
from rnode_dyn.bench.measure import Speed, Step, size_of_a_second, speed_at
from rnode_dyn.costs.stages import likelihood_batch_size, stage_key
from rnode_dyn.costs.text import Rate
from rnode_dyn.costs.whole import EVALUATION, VALIDATION
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.threads import faster_threads
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.recipe.schema import Recipe, StageRecipe
from rnode_dyn.training.loop.optimizers import check_optimizer, optimizer_settings
from rnode_dyn.training.loop.stages import build_objective
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.likelihood import Likelihood


def measure_rates(recipe: Recipe) -> dict[str, Rate]:
    """Time the steps of every stage of a training, and an evaluation of its model.

    Steps are timed in the recipe's precision, and with its threads or those that are faster, where
    the training chooses them by stage. Matching on the flow's own pairs is not timed, since these
    take a trained flow: it has the rate of the other matching, if there is any.

    Args:
        recipe: The recipe; its data are not read.

    Raises:
        RecipeError: if this machine has not the device that the recipe asks for.

    Returns:
        A rate for each stage, by ``stage_key``, for each objective, as the last stage has it,
        for ``EVALUATION`` and, where it is in another precision, for ``VALIDATION``.
    """
    event = describe_event(recipe)
    with as_trained(recipe, event) as (model, fabric):
        timed = _Timed(recipe, event, model, fabric, torch.get_num_threads())
        found = timed.stages()
        if "likelihood" not in found:
            found["likelihood"] = timed.steps(Likelihood(), likelihood_batch_size(recipe))
        found |= timed.evaluations()
    return {name: Rate(s.flops_per_second, s.in_words()) for name, s in found.items()}


@dataclass(frozen=True)
class _Timed:
    """What of a recipe is timed, on so many threads at most."""

    recipe: Recipe
    event: Event
    model: MultiscaleFlow
    fabric: Fabric
    threads: int

    def stages(self) -> dict[str, Speed]:
        """Time a step of every stage."""
        found: dict[str, Speed] = {}
        for number, stage in enumerate(self.recipe.train.stages):
            if stage.coupling != "reflow":
                speed = self.steps(build_objective(stage), self.recipe.batch_size(stage), stage)
                found |= {stage_key(number): speed, stage.objective: speed}
        return found

    def steps(self, objective: Objective, batch: int, stage: StageRecipe | None = None) -> Speed:
        """Time training steps of a batch, or of as much of it as is solved at once."""
        at_once = batch
        if objective.is_mean_over_samples:
            at_once = piece_size(self.recipe, self.model, batch)
        step = Step(self.model, self.event, objective, self.fabric.autocast)
        size = size_of_a_second(step, at_once)
        if stage is not None and size == batch:  # beside long steps, or pieces, it is nothing
            step = replace(step, optimizer=self._optimizer(stage))
        if chooses_threads(self.recipe, self.fabric.device):
            torch.set_num_threads(self.threads)
            torch.set_num_threads(faster_threads(step.on(size)))
        return speed_at(step, size)

    def _optimizer(self, stage: StageRecipe) -> Optimizer:
        """Return a stage's optimizer, which moves nothing: the weights of all steps are alike."""
        check_optimizer(self.recipe, self.model.parameters())
        optimizer = optimizer_settings(self.recipe, stage).build(self.model.parameters())
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        return optimizer

    def evaluations(self) -> dict[str, Speed]:
        """Time passes forward, as samples are scored while a flow trains, and afterwards."""
        size = self.recipe.data.eval_batch_size or self.recipe.data.batch_size
        precision = self.recipe.train.precision
        model = self.model.float() if precision == "bf16-true" else self.model
        step = Step(model, self.event, gradient=False)
        found = {EVALUATION: speed_at(step, size_of_a_second(step, size))}
        if precision.endswith("-mixed"):
            mixed = replace(step, autocast=self.fabric.autocast)
            found[VALIDATION] = speed_at(mixed, size_of_a_second(mixed, size))
        return found
