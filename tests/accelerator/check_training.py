"""Objectives and training steps on the device give what they give on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    FlowMatching,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MultiscaleFlow,
    Muon,
    Objective,
)
from rnode_dyn.data.splits import Event
from tests.accelerator.models import image_model
from tests.accelerator.twins import Figures, agree, gradients

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

IMAGES = Event((1, 8, 8), levels=17)
HOST = ["evaluations"]
OBJECTIVES = {
    "likelihood": Likelihood(),
    "likelihood-other-weights": Likelihood([KineticEnergy(0.3), JacobianFrobenius(0.1)]),
    "likelihood-unweighted": Likelihood([]),
    **{
        f"matching-{coupling}-{times}": FlowMatching(coupling, times, pace=1.5)
        for coupling in ("independent", "minibatch-ot")
        for times in ("uniform", "stratified", "logit-normal", "near-data")
    },
}


def test_velocities_that_are_expected() -> None:
    objective = FlowMatching(times="near-data", weighting="likelihood", targets="expected")

    def use(model: MultiscaleFlow, u: Tensor) -> Figures:
        loss = objective.loss(model, u, IMAGES)
        loss.value.backward()
        return {"loss": loss.value, **gradients(model.parameters())}

    agree(lambda: (image_model("bells"), torch.rand(5, 1, 8, 8)), use, rtol=1e-6)


def test_steps_of_muon() -> None:
    def use(layer: nn.Linear, x: Tensor) -> Figures:
        optimizer = Muon(layer.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            optimizer.step()
        return {"weight": layer.weight, "bias": layer.bias}

    agree(lambda: (nn.Linear(16, 8), torch.randn(5, 16)), use, rtol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective(name: str) -> None:
    objective: Objective = OBJECTIVES[name]

    def use(model: MultiscaleFlow, u: Tensor) -> Figures:
        loss = objective.loss(model, u, IMAGES)
        loss.value.backward()
        # How many evaluations there were is known to the host, and stays there.
        counts = {name: float(loss.figures.pop(name)) for name in HOST if name in loss.figures}
        return {"loss": loss.value, **loss.figures, **counts, **gradients(model.parameters())}

    agree(lambda: (image_model(), torch.rand(5, 1, 8, 8)), use, rtol=1e-9)
