"""A layer's numbers are the closed forms, and it computes what its penalties ask for, no more."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdyn.nn import DepthCat, GalLinear

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    DirectionalDerivative,
    ExactDivergence,
    FixedStep,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    ODEProblem,
    RegularizedFlow,
    RegularizedODE,
    Regularizer,
    Solver,
    TotalDerivative,
    Tsit5,
    Uniform,
    penalty,
    solve,
)
from rnode_dyn.flows.divergence import Linearization
from rnode_dyn.flows.share import Share, sharing
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import (
    FEW_STEPS,
    FINE,
    REGULARIZERS,
    SENSITIVITIES,
    SmallField,
    name_of,
    randomize,
)
from tests.flows.test_linear_field import BATCH, DIM, AffineField, ClosedForm


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=name_of)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_value_penalty_and_gradient_are_the_closed_forms(
    sensitivity: Sensitivity, regularizer: Regularizer
) -> None:
    field, x = AffineField(), torch.randn(BATCH, DIM, requires_grad=True)
    solver = Solver(FINE.algorithm, FixedStep(0.25), sensitivity)
    weighted = type(regularizer)(0.7)
    layer = RegularizedODE(field, solver, [weighted], 1.0, divergence=ExactDivergence())
    weights = torch.randn(BATCH, DIM)
    exact = ClosedForm(field, 1.0).forward(x)
    solved = (weights * layer(x)).sum() + penalty(layer)
    formula = (weights * exact.z).sum() + 0.7 * exact.penalties[regularizer.name].mean()
    torch.testing.assert_close(solved, formula, rtol=1e-5, atol=1e-6)
    by_solve, by_formula = (
        torch.autograd.grad(value, [x, *field.parameters()], materialize_grads=True)
        for value in (solved, formula)
    )
    torch.testing.assert_close(by_solve, by_formula, rtol=1e-5, atol=1e-6)


class Counted(torch.autograd.Function):
    """The identity, which counts how often it is evaluated and pulled back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: dict[str, int]) -> Tensor:
        ctx.counts = counts
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.counts["products"] += 1
        return Counted.apply(gradients[0], ctx.counts), None  # type: ignore[return-value]


class CountingField(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.counts = {"evaluations": 0, "products": 0}

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.counts["evaluations"] += 1
        return torch.tanh(Counted.apply(self.linear(x), self.counts))  # type: ignore[arg-type]


def counts_of(regularizers: list[Regularizer], solver: Solver) -> tuple[dict, dict]:
    """What the forward pass takes, and the whole training step."""
    torch.manual_seed(0)
    field = CountingField()
    layer = RegularizedODE(field, solver, regularizers)
    result = layer(torch.randn(4, 3))
    forward = dict(field.counts)
    (result.square().mean() + penalty(layer)).backward()
    return forward, dict(field.counts)


@pytest.mark.parametrize("solver", [FEW_STEPS, Solver(Tsit5(), AdaptiveStep(1e-4, 1e-4))])
def test_nothing_is_computed_that_no_penalty_asks_for(solver: Solver) -> None:
    plain_forward, plain = counts_of([], solver)
    kinetic_forward, kinetic = counts_of([KineticEnergy(0.1)], solver)
    assert plain_forward["products"] == kinetic_forward["products"] == 0
    assert kinetic_forward == plain_forward
    assert sum(kinetic.values()) <= 1.3 * sum(plain.values())
    both_forward, _ = counts_of([KineticEnergy(0.1), JacobianFrobenius(0.1)], solver)
    assert both_forward["evaluations"] == plain_forward["evaluations"]
    assert both_forward["products"] == both_forward["evaluations"]


def test_weightless_penalties_cost_nothing() -> None:
    assert counts_of([JacobianFrobenius(0.0)], FEW_STEPS) == counts_of([], FEW_STEPS)


def test_the_steps_are_those_of_the_state_alone() -> None:
    field, x = randomize(SmallField()), torch.randn(5, 4)
    solver = Solver(Tsit5(), AdaptiveStep(1e-4, 1e-4))
    layer = RegularizedODE(field, solver, REGULARIZERS)
    alone = solve(ODEProblem(field, x, (0.0, 1.0)), solver)
    torch.testing.assert_close(layer(x), alone.x[-1])
    assert (layer.stats.nfe, layer.stats.rejected) == (alone.stats.nfe, alone.stats.rejected)


class Unannounced(KineticEnergy):
    name = "unannounced"

    def integrand(self, at: Linearization) -> Tensor:
        return at.frobenius


def test_a_penalty_that_did_not_ask_is_told_how_to() -> None:
    layer = RegularizedODE(SmallField(), FEW_STEPS, [Unannounced(1.0)])
    with pytest.raises(AttributeError, match=r"frobenius was not asked for.*needs_products = True"):
        layer(torch.randn(2, 4))


def test_zeros_are_appended_to_the_channels() -> None:
    layer = RegularizedODE(lambda t, x: torch.ones_like(x), FEW_STEPS, augment=2)
    x = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(layer(x), torch.cat([x + 1, torch.ones(3, 2, 4, 4)], dim=1))


def test_the_trajectory_at_times() -> None:
    x = torch.randn(3, 2)
    penalties = [KineticEnergy(1.0)]

    def decay(t: Tensor, x: Tensor) -> Tensor:
        return -x

    ends = RegularizedODE(decay, FINE, penalties, 2.0, return_trajectory=True)
    torch.testing.assert_close(ends(x), torch.stack([x, x * torch.exp(torch.tensor(-2.0))]))
    for times in ([0.0, 0.7, 1.3], [0.5, 2.0], torch.tensor([0.0, 2.0])):
        saving = RegularizedODE(decay, FINE, penalties, 2.0, return_trajectory=True, save_at=times)
        exact = x * torch.exp(-torch.as_tensor(times))[:, None, None]
        torch.testing.assert_close(saving(x), exact, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(penalty(saving), penalty(ends))


def test_the_gradient_reaches_the_end_time() -> None:
    end = nn.Parameter(torch.tensor(1.5))
    layer = RegularizedODE(lambda t, x: -x, FINE, end_time=end)
    assert dict(layer.named_parameters()) == {"end": end}
    layer(torch.ones(1, 1)).sum().backward()
    torch.testing.assert_close(end.grad, -torch.exp(-end.detach()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.Linear, GalLinear])
def test_parameters_that_vary_in_depth(kind: type) -> None:
    # A Galerkin layer takes the time off DepthCat's last column.
    inner = int(kind is nn.Linear)
    layers = [DepthCat(1), kind(2 + inner, 8), nn.Tanh(), DepthCat(1), kind(8 + inner, 2)]
    field = randomize(nn.Sequential(*layers))
    layer = RegularizedODE(field, Solver(RK4(), FixedStep(0.25)), REGULARIZERS)
    network = nn.Sequential(nn.Linear(4, 2), layer, nn.Linear(2, 3))
    x = torch.randn(6, 4, requires_grad=True)
    (network(x).square().mean() + penalty(network)).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in field.parameters())
    early, late = (layer.field(torch.tensor(t), torch.ones(1, 2)) for t in (0.1, 0.9))
    assert not torch.allclose(early, late)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"solver": RK4()}, ["solver is RK4()", "Solver("]),
        ({"divergence": "exact"}, ["divergence is 'exact'"]),
        ({"regularizers": [0.1]}, ["regularizers holds 0.1"]),
        ({"regularizers": [KineticEnergy(1), KineticEnergy(1)]}, ["kinetic_energy", "twice"]),
        ({"end_time": -1.0}, ["end_time is -1.0"]),
        ({"augment": 1.5}, ["augment is 1.5", "channels"]),
        ({"augment": -1}, ["augment is -1"]),
        ({"save_at": [0.5]}, ["return_trajectory=True"]),
        ({"return_trajectory": [0.5]}, ["return_trajectory is [0.5]", "save_at"]),
        ({"return_trajectory": True, "save_at": [1.5]}, ["t = 1.5", "outside"]),
        ({"return_trajectory": True, "save_at": []}, ["save_at is empty"]),
        ({"return_trajectory": True, "save_at": "ends"}, ["save_at is 'ends'"]),
        (
            {"return_trajectory": True, "save_at": torch.tensor([0.5], requires_grad=True)},
            ["save_at wants a gradient", "save_at.detach()"],
        ),
        (
            {"return_trajectory": True, "save_at": [1.0], "end_time": Uniform(0.5, 1.5)},
            ["t = 1.0", "outside"],
        ),
        ({"field": 3}, ["field is a int"]),
    ],
)
def test_wrong_part_of_a_layer(arguments: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        RegularizedODE(**{"field": MLPField(2), **arguments})
    assert [f for f in fragments if f not in str(refusal.value)] == []


@pytest.mark.parametrize("x", [torch.zeros(3, dtype=torch.int64), [[1.0]]])
def test_what_is_no_batch_is_refused(x: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="a flow takes"):
        RegularizedODE(MLPField(3))(x)


def test_directional_and_total_derivatives_need_no_product_of_the_divergence() -> None:
    forward, _ = counts_of([DirectionalDerivative(0.1), TotalDerivative(0.1)], FEW_STEPS)
    plain, _ = counts_of([], FEW_STEPS)
    assert forward["evaluations"] == plain["evaluations"]


@pytest.mark.parametrize(
    "kind",
    [
        lambda field: RegularizedODE(field, FINE, end_time=Uniform(0.5, 1.5)),
        lambda field: RegularizedFlow(field, FINE, ExactDivergence(), end_time=Uniform(0.5, 1.5)),
    ],
    ids=["layer", "flow"],
)
def test_an_end_time_is_drawn_for_every_pass_in_training(kind: Callable) -> None:
    model = kind(lambda t, x: torch.ones_like(x))
    x = torch.zeros(3, 2)

    def ends() -> list[Tensor]:
        results = [model(x) for _ in range(50)]
        return [r if isinstance(r, Tensor) else r.z for r in results]

    drawn = torch.stack(ends())
    assert bool((drawn == drawn[:, :1, :1]).all())  # the batch has it in common
    assert 0.5 <= drawn.min() < 0.7 < 1.3 < drawn.max() <= 1.5
    torch.manual_seed(3)
    again = ends()
    torch.manual_seed(3)
    torch.testing.assert_close(ends(), again)
    model.eval()
    torch.testing.assert_close(torch.stack(ends()), torch.ones(50, 3, 2))


def test_the_way_back_begins_at_the_mean_end() -> None:
    flow = RegularizedFlow(lambda t, x: torch.ones_like(x), FINE, end_time=Uniform(0.5, 1.5))
    x = torch.zeros(3, 2)
    torch.testing.assert_close(flow.inverse(x).z, x - 1)
    torch.testing.assert_close(flow.generate(x), x - 1)
    assert flow.end_time == 1.0
    assert "end_time=Uniform(low=0.5, high=1.5)" in repr(flow)


def test_parts_of_a_step_have_the_drawn_end_in_common() -> None:
    end = Uniform(0.5, 1.5)
    shares = [Share(start, 2, 4, seed=7) for start in (0, 2)]
    drawn = []
    for share in shares:
        with sharing(share):
            drawn += [(end.draw(torch.zeros(2, 3)), end.draw(torch.zeros(2, 3)))]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


@pytest.mark.parametrize(
    ("low", "high", "fragment"),
    [(1.5, 0.5, "earlier end first"), (-1.0, 1.0, "low is -1.0"), (1.0, "2", "high is '2'")],
)
def test_wrong_ends(low: Any, high: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        Uniform(low, high)
