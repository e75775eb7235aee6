"""Small models that the checks share, one with six continuous blocks as an image model has."""

from rnode_dyn import (
    CheckpointedAdjoint,
    ConvField,
    FixedStep,
    Heun,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    LogitTransform,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Shift,
    Solver,
    ThreeBells,
    Transform,
)
from tests.flows.cases import randomize

PREPROCESS: dict[str, Transform] = {
    "logit": LogitTransform(0.05),
    "shift": Shift(-0.5),
    "bells": ThreeBells(1 / 17, 2 / 17),
}


def block(channels: int, solver: Solver) -> RegularizedFlow:
    """A continuous block with the paper's two penalties."""
    return RegularizedFlow(
        randomize(ConvField(channels, hidden=(3,)), std=0.1),
        solver,
        HutchinsonDivergence("rademacher"),
        [KineticEnergy(0.01), JacobianFrobenius(0.01)],
    )


def image_model(preprocess: str = "logit", solver: Solver | None = None) -> MultiscaleFlow:
    """Six blocks in two scales on images (1, 8, 8): two, a squeeze, two, a split, and two more."""
    solver = Solver(Heun(), FixedStep(1.0), CheckpointedAdjoint()) if solver is None else solver
    return MultiscaleFlow(
        (1, 8, 8),
        [
            Scale(
                [block(1, solver), block(1, solver)],
                [block(4, solver), block(4, solver)],
                squeeze=True,
                split=True,
            ),
            Scale([block(2, solver), block(2, solver)]),
        ],
        PREPROCESS[preprocess],
    )
