"""The 14×14 digits that the benchmarks of matching train on and score: nothing to run here."""

from collections.abc import Iterator

import torch
from torch import Tensor

from rnode_dyn import MultiscaleFlow, Solver, UniformDequantization, build_model, load_recipe
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.recipe.build import load_splits


class Digits:
    """The digits, and flows on them as `mnist14-unet` has it.

    Args:
        root: The folder with the digits.
        seed: Of the flow's weights, and of the noise in its scores.
        points: How many test digits are scored.
        wanted: What is set otherwise than in the recipe.
    """

    def __init__(self, root: str, seed: int, points: int, wanted: tuple[str, ...] = ()) -> None:
        keys = [f"data.root={root}", f"seed={seed}", f"data.test_size={points}", *wanted]
        self.recipe = load_recipe("mnist14-unet", keys)
        self.splits, self.seed = load_splits(self.recipe), seed
        self.dequantize = UniformDequantization(256)

    def flow(self) -> MultiscaleFlow:
        """An untrained flow."""
        torch.manual_seed(self.seed)
        return build_model(self.recipe, self.splits.event)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Training batches without end."""
        images = self.splits.train.head(len(self.splits.train))
        while True:
            yield self.dequantize(images[torch.randint(len(images), (size,))])

    @torch.no_grad()
    def scores(self, flow: MultiscaleFlow, solver: Solver) -> Tensor:
        """Bits/dim of each test digit, with the same noise for every flow and solver."""
        for block in flow.eval().blocks:
            block.eval_solver = solver
        torch.manual_seed(1000 + self.seed)
        u = self.dequantize(self.splits.test.head(len(self.splits.test)))
        return bits_of(flow(u), self.splits.event)

    def bits(self, flow: MultiscaleFlow, solver: Solver) -> float:
        """Their mean."""
        return float(self.scores(flow, solver).mean())
