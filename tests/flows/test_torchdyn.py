"""torchdyn's parts in a flow, and a flow where torchdyn expects its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchdyn.core import NeuralODE
from torchdyn.nn import Augmenter, DepthCat
from torchdyn.numerics.solvers.hyper import HyperEuler, HyperMidpoint, HyperRungeKutta4

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Euler,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    Solver,
)
from tests.flows.cases import FEW_STEPS, REGULARIZERS, SENSITIVITIES, flat, loss, name_of, randomize


def with_sensitivity(sensitivity: object) -> Solver:
    return Solver(FEW_STEPS.algorithm, FEW_STEPS.stepping, sensitivity)  # type: ignore[arg-type]


def test_a_flow_is_a_neural_ode() -> None:
    assert isinstance(RegularizedFlow(MLPField(2)), NeuralODE)


def test_building_a_flow_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    RegularizedFlow(lambda t, x: t * x)
    RegularizedFlow(nn.Linear(2, 2))
    assert capsys.readouterr().out == ""


def test_the_vector_field_is_still_there() -> None:
    field = randomize(MLPField(2, (4,)))
    flow = RegularizedFlow(field, FEW_STEPS)
    t, x = torch.tensor(0.4), torch.randn(3, 2)
    assert flow.field is field
    torch.testing.assert_close(flow.vf(t, x), field(t, x))


def test_trajectory_starts_at_the_start_and_ends_where_the_flow_does() -> None:
    flow = RegularizedFlow(randomize(MLPField(2, (4,))), FEW_STEPS)
    x = torch.randn(3, 2)
    states = flow.trajectory(x, torch.linspace(0, 1, 3))
    assert states.shape == (3, 3, 2)
    torch.testing.assert_close(states[0], x)
    torch.testing.assert_close(states[-1], flow(x).z)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("euler", Solver(Euler(), FixedStep(0.25))),
        ("rk4", Solver(RK4(), FixedStep(0.25))),
        ("dopri5", Solver(Dopri5(), FixedStep(0.25))),
        ("dopri5", Solver(Dopri5(), AdaptiveStep(1e-7, 1e-7))),
    ],
    ids=["euler", "rk4", "dopri5", "dopri5-adaptive"],
)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_their_solver_by_name_solves_and_trains_like_ours(
    theirs: str, ours: Solver, sensitivity: object
) -> None:
    field = randomize(MLPField(2, (4,)))
    x = torch.randn(3, 2, requires_grad=True)

    def solved(algorithm: object) -> tuple[Tensor, Tensor]:
        solver = Solver(algorithm, ours.stepping, sensitivity)  # type: ignore[arg-type]
        result = RegularizedFlow(field, solver, ExactDivergence(), REGULARIZERS)(x)
        leaves = [x, *field.parameters()]
        return loss(result), flat(torch.autograd.grad(loss(result), leaves))

    # torchdyn keeps its tableaus in single precision.
    torch.testing.assert_close(solved(theirs), solved(ours.algorithm), rtol=1e-5, atol=1e-5)


class Correction(nn.Module):
    """The network of a hypersolver, on the flow's augmented state."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # torchdyn's signature
        return self.linear(x)


HYPERSOLVERS = [HyperEuler, HyperMidpoint, HyperRungeKutta4]


@pytest.mark.parametrize("sensitivity", SENSITIVITIES[:2], ids=name_of)
@pytest.mark.parametrize("hypersolver", HYPERSOLVERS)
def test_a_hypersolver_belongs_to_the_flow_and_learns(
    hypersolver: Callable[[nn.Module], nn.Module], sensitivity: object
) -> None:
    network = Correction(3)
    solver = Solver(hypersolver(network), FixedStep(0.5), sensitivity)  # type: ignore[arg-type]
    flow = RegularizedFlow(MLPField(2, (4,)), solver)
    assert {id(p) for p in network.parameters()} <= {id(p) for p in flow.parameters()}
    assert any("linear.weight" in name for name in flow.state_dict())
    loss(flow(torch.randn(3, 2))).backward()
    gradient = network.linear.weight.grad
    assert gradient is not None
    assert gradient.any()


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES[2:], ids=name_of)
def test_a_hypersolver_cannot_step_an_adjoint_equation(
    sensitivity: object, trainable: bool
) -> None:
    """Its network corrects steps of the flow's state, and the adjoint's state is another."""
    network = Correction(3).requires_grad_(trainable)
    with pytest.raises(ValueError, match=r"hypersolver.*CheckpointedAdjoint"):
        Solver(HyperEuler(network), FixedStep(0.5), sensitivity)  # type: ignore[arg-type]


def test_a_hypersolver_has_the_same_gradient_under_checkpointing() -> None:
    network, field, x = Correction(3), randomize(MLPField(2, (4,))), torch.randn(3, 2)

    def gradients(sensitivity: object) -> tuple[Tensor | None, ...]:
        solver = Solver(HyperEuler(network), FixedStep(0.25), sensitivity)  # type: ignore[arg-type]
        result = RegularizedFlow(field, solver, ExactDivergence())(x)
        leaves = [*field.parameters(), *network.parameters()]
        return torch.autograd.grad(loss(result), leaves, allow_unused=True)

    torch.testing.assert_close(gradients(CheckpointedAdjoint()), gradients(DiscreteAdjoint()))


def depth_twin(field: MLPField) -> nn.Sequential:
    """Return the same field with time joined by DepthCat."""
    parts: list[nn.Module] = []
    for layer in field.layers:
        outputs, inputs = layer.weight.shape
        linear = nn.Linear(inputs + 1, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.cat([layer.weight, layer.time_weight[:, None]], dim=1))
            linear.bias.copy_(layer.bias)
        parts += [DepthCat(1), linear, nn.Softplus()]
    return nn.Sequential(*parts[:-1])


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_depth_cat_sees_the_time_of_every_evaluation(sensitivity: object) -> None:
    field, x = randomize(MLPField(2, (4,))), torch.randn(3, 2, requires_grad=True)

    def solved(field: nn.Module) -> tuple[tuple, Tensor]:
        flow = RegularizedFlow(
            field, with_sensitivity(sensitivity), ExactDivergence(), REGULARIZERS, end_time=0.7
        )
        result = flow(x)
        return tuple(result), torch.autograd.grad(loss(result), x)[0]

    torch.testing.assert_close(solved(depth_twin(field)), solved(field), rtol=1e-9, atol=1e-11)


def test_augmenter_before_a_flow() -> None:
    flow = RegularizedFlow(randomize(MLPField(4, (4,))), FEW_STEPS, regularizers=REGULARIZERS)
    x = torch.randn(3, 2, requires_grad=True)
    result = nn.Sequential(Augmenter(augment_dims=2), flow)(x)
    assert result.z.shape == (3, 4)
    assert all(value.shape == (3,) for value in [result.log_det, *result.penalties.values()])
    loss(result).backward()
    assert x.grad is not None
    assert x.grad.any()


def hidden_gradient(field_of: Callable[[Tensor], object], sensitivity: object) -> Tensor | None:
    """Train a tensor that no module has registered; the noise is the same each time."""
    torch.manual_seed(6)
    hidden = torch.randn(2, 2, requires_grad=True)
    x = torch.randn(3, 2)
    flow = RegularizedFlow(
        field_of(hidden),  # type: ignore[arg-type]
        with_sensitivity(sensitivity),
        HutchinsonDivergence(),
        [KineticEnergy(1.0)],
    )
    loss(flow(x)).backward()
    return hidden.grad


class Conditioned(nn.Module):
    """A module that uses a tensor it was handed, such as another network's output."""

    def __init__(self, context: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.context = (context,)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # a field's signature
        return torch.tanh(self.linear(x) @ self.context[0])


HIDDEN: dict[str, Callable[[Tensor], object]] = {
    "closure": lambda hidden: lambda t, x: torch.tanh(x @ hidden),
    "closure-of-a-result": lambda hidden: (lambda w: lambda t, x: torch.tanh(x @ w))(2 * hidden),
    "module": Conditioned,
    "module-of-a-result": lambda hidden: Conditioned(2 * hidden),
    "method": lambda hidden: Conditioned(hidden).forward,
}


@pytest.mark.parametrize("field_of", HIDDEN.values(), ids=HIDDEN.keys())
@pytest.mark.parametrize("sensitivity", SENSITIVITIES[1:], ids=name_of)
def test_tensors_behind_the_fields_back_are_refused_or_differentiated(
    sensitivity: object, field_of: Callable[[Tensor], object]
) -> None:
    expected = hidden_gradient(field_of, DiscreteAdjoint())
    assert expected is not None
    try:
        gradient = hidden_gradient(field_of, sensitivity)
    except ValueError as refusal:
        assert "needs a gradient" in str(refusal)  # noqa: PT017  # either answer is sound
    else:
        assert gradient is not None
        torch.testing.assert_close(gradient, expected, rtol=0.2, atol=0.05)
