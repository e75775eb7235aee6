"""Small image models whose fields are not zero."""

import torch

from rnode_dyn import (
    ConvField,
    Dopri5,
    FixedStep,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.flows.divergence import Divergence
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.flows.transforms import Transform

SHAPE = (1, 8, 8)
PENALTIES = (KineticEnergy(0.01), JacobianFrobenius(0.01))


def multiscale(
    solver: Solver | None = None,
    divergence: Divergence | None = None,
    regularizers: tuple[Regularizer, ...] = PENALTIES,
    preprocess: Transform | None = None,
    blocks: int = 1,
) -> MultiscaleFlow:
    """Two scales: blocks, a squeeze, blocks, a split, blocks."""

    def several(channels: int) -> list[RegularizedFlow]:
        return [
            RegularizedFlow(
                awake(ConvField(channels, (8, 8))),
                solver or Solver(Dopri5()),
                divergence or HutchinsonDivergence(),
                regularizers,
            )
            for _ in range(blocks)
        ]

    return MultiscaleFlow(
        SHAPE,
        [Scale(several(1), several(4), squeeze=True, split=True), Scale(several(2))],
        preprocess or LogitTransform(0.01),
    )


def vector_model(solver: Solver) -> MultiscaleFlow:
    """A multilayer perceptron on the same images, with several probes."""
    flow = RegularizedFlow(
        awake(MLPField(SHAPE, (16, 16))), solver, HutchinsonDivergence(probes=2), PENALTIES
    )
    return MultiscaleFlow(SHAPE, [Scale([flow])], LogitTransform(0.01))


def awake(field: torch.nn.Module) -> torch.nn.Module:
    """Give the last layer, which starts at zero, weights."""
    torch.nn.init.normal_(field.layers[-1].weight, std=0.2)  # type: ignore[union-attr]
    return field


HALF_STEPS = FixedStep(0.5)
