"""What pictures are drawn by, and what trains for them, on the device as on the CPU."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    FixedStep,
    GuidedFlow,
    MLPField,
    MultiscaleFlow,
    Reflow,
    RegularizedFlow,
    Scale,
    Solver,
    VariationalDequantization,
    inpaint,
    interpolate,
)
from tests.accelerator.models import randomize
from tests.accelerator.twins import Figures, agree, gradients

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

SHAPE = (1, 2, 4)


def flow_of(classes: int | None = None) -> MultiscaleFlow:
    dropout = 0.0 if classes is None else 0.2
    field = randomize(MLPField(SHAPE, (8,), classes=classes, label_dropout=dropout))
    return MultiscaleFlow(SHAPE, [Scale([RegularizedFlow(field, Solver(RK4(), FixedStep(0.5)))])])


def test_guidance() -> None:
    def use(flow: MultiscaleFlow, z: Tensor, labels: Tensor) -> Figures:
        return {"drawn": GuidedFlow(flow, 2.0).generate(z, labels)}

    agree(lambda: (flow_of(3), torch.randn(3, 8), torch.tensor([0, 1, 2])), use)


def test_ways() -> None:
    def use(flow: MultiscaleFlow, x: Tensor) -> Figures:
        return {"ways": interpolate(flow, x[:2], x[2:], 3)}

    agree(lambda: (flow_of(), torch.randn(4, *SHAPE)), use)


def test_halves() -> None:
    def use(flow: MultiscaleFlow, x: Tensor) -> Figures:
        known = torch.tensor([True, True, False, False], device=x.device).expand(SHAPE)
        return {"drawn": inpaint(flow, x, known, steps=2, repeats=2)}

    agree(lambda: (flow_of(), torch.randn(3, *SHAPE)), use)


def test_matching_again() -> None:
    def use(flow: MultiscaleFlow, x: Tensor) -> Figures:
        loss = Reflow(teacher=flow, steps=2).loss(flow, x).value
        loss.backward()
        return {"loss": loss, **gradients(flow.parameters())}

    agree(lambda: (flow_of(), torch.randn(3, *SHAPE)), use)


def test_learned_dequantization() -> None:
    def use(module: VariationalDequantization, u: Tensor) -> Figures:
        moved, log_det, _ = module(u)
        (moved.sum() + log_det.sum()).backward()
        back = module.inverse(moved.detach()).z
        return {"moved": moved, "log_det": log_det, "back": back, **gradients(module.parameters())}

    def build() -> tuple:
        u = (torch.randint(5, (3, *SHAPE)) + torch.rand(3, *SHAPE).clamp(0.1, 0.9)) / 5
        return randomize(VariationalDequantization(SHAPE, 5, width=4)), u

    agree(build, use)
