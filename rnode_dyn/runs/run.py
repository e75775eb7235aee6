"""A trained run, for those who go on with it in Python."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rnode_dyn._notebook import shown_by
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.guidance import GuidedFlow
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.find import find_run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import read_record
from rnode_dyn.runs.score import Score, score_samples
from rnode_dyn.runs.weights import load_flow


@dataclass(frozen=True, eq=False)
class Run:
    """A run read back from its folder.

    Attributes:
        folder: Where it lies.
        checkpoint: Which weights the flow has: ``best``, ``last``, or those after a stage.
        recipe: What was run, complete.
        flow: The trained flow, in evaluation mode, on the CPU.
        summary: The figures of ``summary.json``; ``None`` for a run that is unfinished.
        metrics: The rows of ``metrics.csv``, each with the figures that it has.
    """

    folder: RunFolder
    checkpoint: str
    recipe: Recipe
    flow: MultiscaleFlow = field(repr=False)
    summary: dict[str, Any] | None = field(repr=False)
    metrics: tuple[dict[str, float], ...] = field(repr=False)

    _repr_html_ = shown_by("run_html")

    def distribution(
        self, temperature: float = 1.0, guidance: float | None = None
    ) -> FlowDistribution:
        """Return the flow as a distribution of data.

        Args:
            temperature: Standard deviation of the latent variable when sampling.
            guidance: How far samples go beyond their class, see :class:`~rnode_dyn.GuidedFlow`;
                left out, as far as the data do. With it there are no densities.

        Raises:
            ValueError: if the flow was trained without ``model.condition.dropout``.
        """
        flow = self.flow if guidance is None else GuidedFlow(self.flow, guidance)
        return FlowDistribution(flow, self.flow.event_shape, temperature)

    def score(
        self,
        x: Tensor | np.ndarray,
        *,
        probes: int = 4,
        batch_size: int | None = None,
        seed: int = 0,
        condition: Tensor | None = None,
        progress: bool = False,
    ) -> Score:
        """Score samples: log p of each, its bits per dimension, and how well it is known.

        Args:
            x: Samples ``(n, *event)``: floats, or whole-numbered pixels as the data set has them.
            probes: Solves a sample, which are averaged; 1 where nothing is drawn at random.
            batch_size: Samples that are solved for at once; left out, as the run evaluates.
            seed: Seed of the noise.
            condition: Of a conditional flow, a row a sample.
            progress: Whether to show a bar in a terminal.

        Raises:
            TypeError: if the samples are of another kind of number than the flow's.
            ValueError: if they have another shape, or a number that cannot be.
        """
        data = self.recipe.data
        default = data.eval_batch_size or data.batch_size
        return score_samples(
            self.flow,
            describe_event(self.recipe),
            x,
            probes=probes,
            batch_size=default if batch_size is None else batch_size,
            seed=seed,
            condition=condition,
            progress=progress,
        )


def load_run(path: str | Path, checkpoint: str = "best") -> Run:
    """Load a run that was trained by ``rnode-dyn run`` or :func:`run`; no code in it is run.

    Args:
        path: The run folder, or a recipe's name, such as ``"moons"``: its newest run under
            ``runs``.
        checkpoint: Which weights: ``best`` by held-out bits per dimension, ``last``, or
            ``stage-0``: those after the first of several stages.

    Raises:
        RunError: if there is no such run, or something in its folder is missing or damaged.

    Example:
        >>> import tempfile
        >>> from rnode_dyn import load_recipe, run
        >>> small = ["train.max_steps=1", "data.train_size=64", "data.test_size=16"]
        >>> folder = run(load_recipe("moons", small), tempfile.mkdtemp()).folder
        >>> trained = load_run(folder)
        >>> trained.recipe.name, trained.distribution().sample((3,)).shape
        ('moons', torch.Size([3, 2]))
        >>> trained.score(trained.distribution().sample((3,))).bits_per_dim.shape
        torch.Size([3])
    """
    folder = find_run(path)
    record = read_record(folder)
    recipe, flow = load_flow(folder, checkpoint)
    return Run(folder, checkpoint, recipe, flow, record.summary, record.metrics)
