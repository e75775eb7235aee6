"""The comparison with the CPU finds what it is there to find: each rule is broken once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import RK4, FixedStep, ODEProblem, Solver, solve
from tests.accelerator.readings import host_readings
from tests.accelerator.twins import Figures, agree

pytestmark = pytest.mark.usefixtures("accel")


def start() -> tuple[Tensor]:
    return (torch.randn(2, 3),)


def left_on_the_cpu(x: Tensor) -> Figures:
    return {"y": torch.ones(3)}


def taken_off_the_device(x: Tensor) -> Figures:
    return {"y": x.cpu() + 1}


def drawn_on_the_cpu(x: Tensor) -> Figures:
    return {"y": x + torch.randn(2, 3).to(x.device)}


def drawn_from_a_seed_of_all_devices(x: Tensor) -> Figures:
    torch.manual_seed(0)
    return {"y": x}


def another_number(x: Tensor) -> Figures:
    return {"y": x + (x.device.type == "cpu")}


def another_word(x: Tensor) -> Figures:
    return {"said": x.device.type}


def one_figure_more(x: Tensor) -> Figures:
    return {"y": x, x.device.type: x}


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (left_on_the_cpu, "y is on cpu"),
        (taken_off_the_device, "y is on cpu"),
        (drawn_on_the_cpu, "drawn on the wrong device"),
        (drawn_from_a_seed_of_all_devices, "drawn on the wrong device"),
        (another_number, "not close"),
        (another_word, "said is 'accel' instead of 'cpu'"),
        (one_figure_more, "instead of"),
    ],
)
def test_a_mistake_is_found(use: Callable[..., Figures], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        agree(start, use)


class Forgetful(nn.Module):
    """A field with a constant that is no buffer, and so stays where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.ones(3)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.rate * x


class Looking(nn.Module):
    """A field that looks at its state to know what to do."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_constant_that_does_not_move_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"same device.*shape \(3,\)"):
        agree(lambda: (Forgetful(), *start()), lambda field, x: {"y": field(x[0, 0], x)})


def test_a_field_that_looks_is_counted_at_every_evaluation() -> None:
    problem = ODEProblem(Looking(), start()[0].to("accel"), (0.0, 1.0))
    with host_readings() as readings, torch.no_grad():
        solution = solve(problem, Solver(RK4(), FixedStep(0.5)))
    assert solution.stats.nfe == 8
    assert readings.count >= 8
    assert readings.kinds["_local_scalar_dense"] == readings.count
