"""On f(t, x) = A x + b t + c every quantity of a flow, and its gradient, has a closed form."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import ExactDivergence, FixedStep, FlowResult, RegularizedFlow, Solver
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import FINE, REGULARIZERS, SENSITIVITIES, name_of

DIM, BATCH = 3, 2


class AffineField(nn.Module):
    """f(t, x) = A x + b t + c."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(0.6 * torch.randn(DIM, DIM))
        self.b = nn.Parameter(torch.randn(DIM))
        self.c = nn.Parameter(torch.randn(DIM))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        bias = self.b * t.expand_as(self.b) + self.c
        return x @ self.a.T + bias.expand_as(x)


def gramian(generator: Tensor, weight: Tensor, time: float) -> Tensor:
    """∫₀ᵀ exp(Mᵀs) Q exp(Ms) ds (Van Loan, IEEE Trans. Automat. Contr. 23(3), 1978)."""
    size = len(generator)
    zero = torch.zeros_like(generator)
    block = torch.cat(
        [torch.cat([-generator.T, weight], 1), torch.cat([zero, generator], 1)], dim=0
    )
    exponential = torch.linalg.matrix_exp(block * time)
    return exponential[size:, size:].T @ exponential[:size, size:]


@dataclass(frozen=True)
class ClosedForm:
    """The affine flow as the linear flow dy/dt = M y of y = (x, t, 1)."""

    field: AffineField
    end_time: float

    def generator(self) -> Tensor:
        slope = torch.cat([self.field.a, self.field.b[:, None], self.field.c[:, None]], dim=1)
        clock = torch.zeros(2, DIM + 2)
        clock[0, -1] = 1.0
        return torch.cat([slope, clock], dim=0)

    def penalties(self, start: Tensor) -> dict[str, Tensor]:
        """Integrate the penalties along the trajectories from ``start``, rows of (x, 0, 1)."""
        generator = self.generator()
        value = generator[:DIM]
        along = self.field.a @ value
        halves = {
            "kinetic_energy": value,
            "directional_derivative": along,
            "total_derivative": value @ generator,
        }
        integrals = {
            name: torch.einsum(
                "bi,ij,bj->b", start, gramian(generator, rows.T @ rows, self.end_time), start
            )
            / (2 * DIM)
            for name, rows in halves.items()
        }
        frobenius = self.field.a.square().sum() * self.end_time / DIM
        return {**integrals, "jacobian_frobenius": frobenius.expand(len(start))}

    def forward(self, x: Tensor) -> FlowResult:
        start = torch.cat([x, torch.tensor([[0.0, 1.0]]).expand(len(x), 2)], dim=1)
        end = start @ torch.linalg.matrix_exp(self.generator() * self.end_time).T
        log_det = (torch.trace(self.field.a) * self.end_time).expand(len(x))
        return FlowResult(end[:, :DIM], log_det, self.penalties(start))

    def inverse(self, z: Tensor) -> FlowResult:
        end = torch.cat([z, torch.tensor([[self.end_time, 1.0]]).expand(len(z), 2)], dim=1)
        start = end @ torch.linalg.matrix_exp(-self.generator() * self.end_time).T
        log_det = (-torch.trace(self.field.a) * self.end_time).expand(len(z))
        return FlowResult(start[:, :DIM], log_det, self.penalties(start))


def quantity(result: FlowResult, name: str) -> Tensor:
    """Return one quantity, ``(batch, …)``."""
    return {"z": result.z, "log_det": result.log_det, **result.penalties}[name]


QUANTITIES = ["z", "log_det", *(r.name for r in REGULARIZERS)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize(
    ("direction", "end_time"), [("forward", 1.0), ("forward", 0.4), ("inverse", 1.5)]
)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_value_and_gradient_are_the_closed_forms(
    sensitivity: Sensitivity, direction: str, end_time: float, name: str
) -> None:
    field = AffineField()
    x = torch.randn(BATCH, DIM, requires_grad=True)
    solver = Solver(FINE.algorithm, FixedStep(0.25), sensitivity)
    flow = RegularizedFlow(field, solver, ExactDivergence(), REGULARIZERS, end_time)
    solved = quantity(getattr(flow, direction)(x), name)
    exact = quantity(getattr(ClosedForm(field, end_time), direction)(x), name)
    torch.testing.assert_close(solved, exact, rtol=1e-5, atol=1e-6)

    weights = torch.randn_like(exact)
    by_solve, by_formula = (
        torch.autograd.grad(
            (weights * value).sum(), [x, *field.parameters()], materialize_grads=True
        )
        for value in (solved, exact)
    )
    torch.testing.assert_close(by_solve, by_formula, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("end_time", [0.4, 1.0, 2.0])
def test_inverse_negates_log_det_and_keeps_the_penalties(end_time: float) -> None:
    flow = RegularizedFlow(AffineField(), FINE, ExactDivergence(), REGULARIZERS, end_time)
    x = torch.randn(BATCH, DIM)
    there = flow(x)
    back = flow.inverse(there.z)
    torch.testing.assert_close(back.z, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back.penalties, there.penalties, rtol=1e-7, atol=1e-8)
    assert all((value > 0).all() for value in there.penalties.values())


def test_without_time_dependence_the_total_derivative_is_the_directional_one() -> None:
    field = AffineField()
    nn.init.zeros_(field.b)
    penalties = RegularizedFlow(field, FINE, ExactDivergence(), REGULARIZERS)(
        torch.randn(BATCH, DIM)
    ).penalties
    torch.testing.assert_close(
        penalties["total_derivative"], penalties["directional_derivative"], rtol=1e-12, atol=0
    )


def test_a_pure_translation_costs_kinetic_energy_alone() -> None:
    speed = torch.tensor([3.0, 4.0])
    flow = RegularizedFlow(
        lambda t, x: speed.expand_as(x), FINE, ExactDivergence(), REGULARIZERS, end_time=2.0
    )
    z, log_det, penalties = flow(torch.zeros(1, 2))
    torch.testing.assert_close(z[0], 2 * speed)
    energy = penalties.pop("kinetic_energy")
    assert math.isclose(float(energy), 2.0 * 0.5 * (9 + 16) / 2)
    assert not log_det.any()
    assert not any(value.any() for value in penalties.values())
