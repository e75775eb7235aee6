"""Hutchinson's estimates against the exact trace and Frobenius norm."""

import math

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    CheckpointedAdjoint,
    ConvField,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    JacobianFrobenius,
    MLPField,
    RegularizedFlow,
    Solver,
)
from rnode_dyn.fields.linearize import linearize
from rnode_dyn.flows.divergence import Divergence
from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import (
    ALGORITHMS,
    DIVERGENCES,
    FEW_STEPS,
    REGULARIZERS,
    SENSITIVITIES,
    SmallField,
    loss,
    name_of,
    outputs,
    randomize,
)

T = torch.tensor(0.4)
NOISES = ["gaussian", "rademacher"]


class Recorder(nn.Module):
    """A field with a product of its own that notes every cotangent it is asked for."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field
        self.cotangents: list[Tensor] = []
        self.evaluations = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        return self.field(t, x)

    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.cotangents.append(v.detach().clone())
        at = linearize(self.field, t, x)
        return at.value, at.pull(v)


def dense_jacobian(field: nn.Module, x: Tensor) -> Tensor:
    """Return (batch, d, d), of a field whose samples do not see each other."""
    rows = torch.autograd.functional.jacobian(lambda s: field(T, s).sum(0), x)
    return rows.reshape(x[0].numel(), len(x), -1).movedim(1, 0)


@pytest.mark.parametrize(
    ("field", "shape"),
    [(MLPField(5, (6,)), (5,)), (ConvField(2, (3,)), (2, 2, 3)), (SmallField(), (1, 2, 2))],
    ids=["mlp", "conv", "fallback"],
)
def test_exact_is_the_dense_jacobians(field: nn.Module, shape: tuple[int, ...]) -> None:
    field = randomize(field.double())
    x = torch.randn(3, *shape)
    at = ExactDivergence().linearize(field, T, x, None)
    jacobian = dense_jacobian(field, x)
    torch.testing.assert_close(at.value, field(T, x))
    torch.testing.assert_close(at.divergence, jacobian.diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(at.frobenius, jacobian.square().sum((1, 2)))


@pytest.mark.parametrize("noise", NOISES)
def test_mean_over_many_probes_meets_the_exact_value(noise: str) -> None:
    field = randomize(ConvField(2, (3,)))
    x = torch.randn(1, 2, 2, 2)
    probes = 4000
    exact = ExactDivergence().linearize(field, T, x, None)
    # One probe a sample, so that each gives an estimate of its own.
    estimator = HutchinsonDivergence(noise)
    many = x.expand(probes, *x.shape[1:])
    at = estimator.linearize(field, T, many, estimator.draw(many))
    for estimate, truth in (
        (at.divergence, exact.divergence[0]),
        (at.frobenius, exact.frobenius[0]),
    ):
        error = estimate.std() / math.sqrt(probes)
        assert abs(estimate.mean() - truth) < 3.5 * error
        assert error < 0.1 * truth.abs() + 0.1


@pytest.mark.parametrize("noise", NOISES)
def test_probes_average_what_single_probes_give(noise: str) -> None:
    field, x = SmallField(), torch.randn(2, 1, 2, 2)
    estimator = HutchinsonDivergence(noise, probes=5)
    drawn = estimator.draw(x)
    together = estimator.linearize(field, T, x, drawn)
    alone = [estimator.linearize(field, T, x, probe[None]) for probe in drawn]
    for name in ("divergence", "frobenius"):
        expected = torch.stack([getattr(at, name) for at in alone]).mean(0)
        torch.testing.assert_close(getattr(together, name), expected)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_zero_mean_and_unit_covariance(noise: str) -> None:
    drawn = HutchinsonDivergence(noise, probes=20_000).draw(torch.zeros(1, 3))[:, 0]
    assert drawn.shape == (20_000, 3)
    torch.testing.assert_close(drawn.mean(0), torch.zeros(3), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.T.cov(), torch.eye(3), rtol=0, atol=0.05)
    if noise == "rademacher":
        assert set(drawn.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_noise_stays_for_one_solve_and_its_gradient_and_changes_with_the_next(
    sensitivity: Sensitivity, noise: str, probes: int
) -> None:
    field = Recorder(SmallField())
    solver = Solver(FEW_STEPS.algorithm, FEW_STEPS.stepping, sensitivity)
    flow = RegularizedFlow(field, solver, HutchinsonDivergence(noise, probes))
    # Many entries, so that two draws of signs cannot be the same by chance.
    x = torch.randn(16, 1, 2, 2)

    def seen() -> set[bytes]:
        field.cotangents.clear()
        loss(flow(x)).backward()
        return {cotangent.numpy().tobytes() for cotangent in field.cotangents}

    first, second = seen(), seen()
    assert len(first) == len(second) == probes
    assert not first & second


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name_of)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=name_of)
def test_one_product_serves_divergence_and_frobenius(
    algorithm: Algorithm, divergence: Divergence
) -> None:
    def cost(regularizers: list) -> tuple[int, int]:
        field = Recorder(SmallField())
        flow = RegularizedFlow(
            field, Solver(algorithm, FEW_STEPS.stepping), divergence, regularizers
        )
        flow(torch.randn(2, 1, 2, 2))
        assert len(field.cotangents) == getattr(divergence, "probes", 1) * flow.stats.nfe
        return len(field.cotangents), field.evaluations

    assert cost([JacobianFrobenius(1.0)]) == cost([])


def test_plain_fallback_gives_the_hand_written_products_flow() -> None:
    written = randomize(ConvField(1, (3,)))
    x = torch.randn(2, 1, 3, 3, requires_grad=True)
    # A lambda's closure over parameters is only sound where autograd records the steps.
    both = [
        RegularizedFlow(f, FEW_STEPS, ExactDivergence(), REGULARIZERS)
        for f in (written, lambda t, s: written(t, s))
    ]
    values = [outputs(flow(x)) for flow in both]
    torch.testing.assert_close(values[0], values[1], rtol=1e-10, atol=1e-12)
    leaves = [x, *written.parameters()]
    by_hand, by_fallback = (
        torch.autograd.grad(torch.stack(list(v.values())).sum(), leaves) for v in values
    )
    torch.testing.assert_close(by_hand, by_fallback, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("noise", NOISES)
def test_log_det_over_many_solves_meets_the_exact_one(noise: str) -> None:
    field = randomize(MLPField(3, (4,)))
    x = torch.randn(1, 3)
    exact = RegularizedFlow(field, FEW_STEPS, ExactDivergence())(x).log_det[0]
    flow = RegularizedFlow(field, FEW_STEPS, HutchinsonDivergence(noise))
    log_det = flow(x.expand(3000, 3)).log_det
    assert abs(log_det.mean() - exact) < 3.5 * log_det.std() / math.sqrt(3000)


def test_forward_and_inverse_agree_with_the_same_noise() -> None:
    solver = Solver(FEW_STEPS.algorithm, FixedStep(1 / 32), CheckpointedAdjoint())
    flow = RegularizedFlow(SmallField(), solver, HutchinsonDivergence(), REGULARIZERS)
    x = torch.randn(2, 1, 2, 2)
    torch.manual_seed(7)
    there = flow(x)
    torch.manual_seed(7)
    back = flow.inverse(there.z)
    torch.testing.assert_close(back.z, x, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(back.penalties, there.penalties, rtol=1e-6, atol=1e-7)
