"""Integrals at nodes of their own: exact to their order, unbiased, differentiable, or refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    MultiscaleFlow,
    NonFiniteStateError,
    Quadrature,
    RegularizedFlow,
    Scale,
    Solver,
    Tsit5,
)
from rnode_dyn.flows.refinement import refine
from rnode_dyn.flows.share import Share, sharing
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import (
    FEW_STEPS,
    FINE,
    REGULARIZERS,
    SENSITIVITIES,
    SmallField,
    flat,
    loss,
    name_of,
    randomize,
)
from tests.flows.test_linear_field import QUANTITIES, AffineField, ClosedForm, quantity

GAUSS, STRATIFIED = Quadrature("gauss", nodes=3), Quadrature("stratified", nodes=3)
PAIRS: dict[str, dict[str, Any]] = {
    "gauss": {"quadrature": GAUSS},
    "stratified": {"quadrature": STRATIFIED},
    "coarse-penalties": {"quadrature": GAUSS, "penalty_quadrature": Quadrature("gauss", 2)},
    "penalties-alone": {"penalty_quadrature": STRATIFIED},
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))


class Scaling(nn.Module):
    """f(t, x) = c(t) x with a cubic c: the trace and the Frobenius norm depend on time alone."""

    coefficients = (0.3, -0.5, 0.7, 0.2)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x * sum(c * t**k for k, c in enumerate(self.coefficients))

    def integral(self) -> float:
        return sum(c / (k + 1) for k, c in enumerate(self.coefficients))

    def integral_of_square(self) -> float:
        pairs = [(j + k, a * b) for j, a in enumerate(self.coefficients)
                 for k, b in enumerate(self.coefficients)]  # fmt: skip
        return sum(c / (k + 1) for k, c in pairs)


@pytest.mark.parametrize("nodes", [1, 2, 3, 7])
@pytest.mark.parametrize("span", [(0.0, 1.0), (2.0, -0.5)])
def test_gauss_is_exact_for_polynomials_to_its_order(nodes: int, span: tuple[float, float]) -> None:
    rule = Quadrature("gauss", nodes).draw(torch.zeros(1))
    assert rule is not None
    weights = rule.over(span)

    def error(degree: int) -> float:
        exact = (span[1] ** (degree + 1) - span[0] ** (degree + 1)) / (degree + 1)
        return abs(sum(w * t**degree for t, w in weights.items()) - exact)

    assert max(map(error, range(2 * nodes))) < 1e-12
    assert error(2 * nodes) > 1e-9


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gauss_integrates_what_depends_on_time_exactly_at_one_step(direction: str) -> None:
    """Two nodes serve a cubic, four its square, whatever the steps of the state are."""
    field, dims = Scaling(), 3
    flow = RegularizedFlow(
        field,
        Solver(RK4(), FixedStep(1.0)),
        ExactDivergence(),
        [JacobianFrobenius(1.0)],
        quadrature=Quadrature("gauss", nodes=2),
        penalty_quadrature=Quadrature("gauss", nodes=4),
    )
    _, log_det, penalties = getattr(flow, direction)(torch.randn(2, dims))
    sign = 1 if direction == "forward" else -1
    torch.testing.assert_close(log_det, torch.full((2,), sign * dims * field.integral()))
    expected = torch.full((2,), field.integral_of_square())
    torch.testing.assert_close(penalties["jacobian_frobenius"], expected)


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_value_and_gradient_of_linear_fields_are_the_closed_forms(
    sensitivity: Sensitivity, direction: str, name: str
) -> None:
    field, end_time = AffineField(), 0.8
    x = torch.randn(2, 3, requires_grad=True)
    solver = Solver(Tsit5(), FixedStep(0.2), sensitivity)
    flow = RegularizedFlow(
        field, solver, ExactDivergence(), REGULARIZERS, end_time, quadrature=Quadrature("gauss", 6)
    )
    solved = quantity(getattr(flow, direction)(x), name)
    exact = quantity(getattr(ClosedForm(field, end_time), direction)(x), name)
    torch.testing.assert_close(solved, exact, rtol=1e-5, atol=1e-5)
    weights, inputs = torch.randn_like(exact), [x, *field.parameters()]
    by_solve, by_formula = (
        torch.autograd.grad((weights * value).sum(), inputs, materialize_grads=True)
        for value in (solved, exact)
    )
    torch.testing.assert_close(by_solve, by_formula, rtol=1e-4, atol=1e-4)


@every_pair
@pytest.mark.one_in(2)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_gradient_is_that_of_finite_differences(
    sensitivity: Sensitivity, direction: str, pair: dict[str, Any]
) -> None:
    """With the noise and the nodes of one seed; along one direction of all that is trained."""
    exact = isinstance(sensitivity, DiscreteAdjoint | CheckpointedAdjoint)
    solver = Solver(Dopri5(), FixedStep(0.25 if exact else 0.1), sensitivity)
    field, x = SmallField(), torch.randn(2, 4, requires_grad=True)
    inputs = [x, *(p for p in field.parameters() if p.requires_grad)]
    flow = RegularizedFlow(field, solver, HutchinsonDivergence(), REGULARIZERS, **pair)

    def value() -> Tensor:
        torch.manual_seed(5)
        return loss(getattr(flow, direction)(x))

    gradient = torch.autograd.grad(value(), inputs, materialize_grads=True)
    moves = [torch.randn_like(i) for i in inputs]
    by_gradient = flat(gradient) @ flat(moves)
    eps = 1e-5
    with torch.no_grad():
        ends = []
        for sign in (1, -2):
            for tensor, move in zip(inputs, moves, strict=True):
                tensor.add_(move, alpha=sign * eps)
            ends.append(value())
    by_difference = (ends[0] - ends[1]) / (2 * eps)
    tolerance = 1e-7 if exact else 1e-4
    torch.testing.assert_close(by_gradient, by_difference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("nodes", [1, 3])
def test_stratified_nodes_are_unbiased(nodes: int) -> None:
    field, draws = Scaling(), 150
    flow = RegularizedFlow(
        field,
        Solver(RK4(), FixedStep(1.0)),
        ExactDivergence(),
        [JacobianFrobenius(1.0)],
        quadrature=Quadrature("stratified", nodes),
    )
    with torch.no_grad():
        results = [flow(torch.zeros(1, 2)) for _ in range(draws)]
    integrals = {
        "log_det": (2 * field.integral(), [r.log_det for r in results]),
        "penalty": (
            field.integral_of_square(),
            [r.penalties["jacobian_frobenius"] for r in results],
        ),
    }
    for exact, drawn in integrals.values():
        values = torch.cat(drawn)
        error = values.std() / math.sqrt(draws)
        assert values.std() > 1e-3
        assert abs(values.mean() - exact) < 4 * error


@every_pair
@pytest.mark.parametrize("stepping", [FixedStep(0.1), AdaptiveStep(1e-7, 1e-7)], ids=name_of)
def test_there_and_back_is_the_identity_and_penalties_count_up(
    stepping: FixedStep | AdaptiveStep, pair: dict[str, Any]
) -> None:
    solver = Solver(Dopri5(), stepping)
    flow = RegularizedFlow(SmallField(), solver, ExactDivergence(), REGULARIZERS, 0.3, **pair)
    at_stages = RegularizedFlow(flow.field, solver, ExactDivergence(), REGULARIZERS, 0.3)
    x = torch.randn(3, 4)
    there = flow(x)
    back, wanted = flow.inverse(there.z), at_stages(x)
    torch.testing.assert_close(back.z, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there.z, wanted.z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there.log_det, wanted.log_det, rtol=0.3, atol=0.1)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=0.3, atol=0.1)
    assert all((value > 0).all() for value in back.penalties.values())
    assert wanted.penalties.keys() == there.penalties.keys() == back.penalties.keys()


def test_nodes_are_drawn_once_for_a_solve_and_anew_for_the_next() -> None:
    flow = RegularizedFlow(SmallField(), FEW_STEPS, ExactDivergence(), quadrature=STRATIFIED)
    x = torch.randn(2, 4)

    def log_det(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return flow(x).log_det

    assert torch.equal(log_det(1), log_det(1))
    assert not torch.equal(log_det(1), log_det(2))


def test_shares_of_a_step_have_the_same_nodes() -> None:
    with sharing(Share(start=0, size=2, whole=6, seed=4)):
        first = STRATIFIED.draw(torch.zeros(2, 3))
    with sharing(Share(start=2, size=4, whole=6, seed=4)):
        second = STRATIFIED.draw(torch.zeros(4, 3))
    assert first == second
    assert first != STRATIFIED.draw(torch.zeros(4, 3))


def test_evaluation_stays_at_the_stages_unless_asked() -> None:
    field, x = SmallField(), torch.randn(2, 4)
    parts = (field, FEW_STEPS, ExactDivergence(), REGULARIZERS)
    at_stages = RegularizedFlow(*parts)(x)
    result = RegularizedFlow(*parts, quadrature=GAUSS).eval()(x)
    torch.testing.assert_close(result, at_stages)
    asked = RegularizedFlow(*parts, eval_quadrature=GAUSS)
    torch.testing.assert_close(asked(x), at_stages)
    assert not torch.equal(asked.eval()(x).log_det, at_stages.log_det)


@pytest.mark.parametrize(
    ("pair", "nodes"), zip(PAIRS.values(), [3, 3, 5, 3], strict=True), ids=list(PAIRS)
)
def test_evaluations_are_those_of_the_state_and_the_nodes(pair: dict[str, Any], nodes: int) -> None:
    """Two steps of RK4, the field at the end for the last step's cubic, and the nodes."""
    flow = RegularizedFlow(SmallField(), FEW_STEPS, regularizers=REGULARIZERS, **pair)
    result = flow(torch.randn(2, 4))
    assert flow.stats.nfe == 8 + 1 + nodes
    loss(result).backward()
    assert flow.stats.nvjp == 8 + 1 + nodes


def test_where_samples_step_by_themselves_each_meets_all_nodes() -> None:
    solver = Solver(Dopri5(), AdaptiveStep(1e-8, 1e-8, per_sample=True))
    flow = RegularizedFlow(SmallField(), solver, ExactDivergence(), REGULARIZERS, quadrature=GAUSS)
    x = torch.randn(3, 4)
    together, taken = flow(x), flow.stats.nfe_per_sample
    for row, sample in enumerate(x):
        _, log_det, penalties = flow(sample[None])
        torch.testing.assert_close(together.log_det[row, None], log_det)
        torch.testing.assert_close(
            {name: value[row, None] for name, value in together.penalties.items()}, penalties
        )
    flow.trajectory(x, [0.0, *GAUSS.draw(x).over((0.0, 1.0)), 1.0])  # type: ignore[union-attr]
    of_states = flow.stats.nfe_per_sample
    assert taken is not None
    assert of_states is not None
    assert torch.equal(taken, of_states + 3)


def test_products_are_taken_at_the_nodes_alone() -> None:
    products = []

    class Counting(HutchinsonDivergence):
        def linearize(self, *args: Any, **kwargs: Any) -> Any:
            products.append(float(args[1]))
            return super().linearize(*args, **kwargs)

    flow = RegularizedFlow(SmallField(), FEW_STEPS, Counting(), quadrature=GAUSS)
    flow(torch.randn(2, 4))
    assert products == pytest.approx(GAUSS.draw(torch.zeros(1)).places)  # type: ignore[union-attr]


def test_fixed_nodes_are_in_the_gap_and_random_ones_are_not() -> None:
    def gap(quadrature: Quadrature) -> float:
        torch.manual_seed(2)
        field = randomize(MLPField(3, (6,)))
        flow = RegularizedFlow(field, Solver(RK4(), FixedStep(0.25)), quadrature=quadrature)
        found = refine(MultiscaleFlow((3,), [Scale([flow])]), torch.ones(4, 3), [flow], seed=1)
        assert flow.quadrature == quadrature
        return sum(found.gaps)

    at_stages = gap(Quadrature())
    assert gap(Quadrature("gauss", nodes=1)) > 10 * at_stages
    assert gap(Quadrature("stratified", nodes=1)) == at_stages


def test_what_is_not_finite_at_a_node_is_told_with_its_sample() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 2.0]])
    flow = RegularizedFlow(
        lambda t, x: x.abs().sqrt(), FEW_STEPS, ExactDivergence(), quadrature=GAUSS
    )
    with pytest.raises(NonFiniteStateError, match="node of the quadrature") as raised:
        flow(x)
    assert raised.value.worst_sample == 1
    assert raised.value.t == pytest.approx(0.5 - math.sqrt(0.15))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=str)
def test_without_gradients_the_numbers_are_the_same(context: Callable) -> None:
    flow = RegularizedFlow(SmallField(), FEW_STEPS, ExactDivergence(), quadrature=GAUSS)
    x = torch.randn(2, 4)
    expected = flow(x)
    with context():
        torch.testing.assert_close(flow(x), expected)


def test_within_vmap() -> None:
    flow = RegularizedFlow(SmallField(), FEW_STEPS, ExactDivergence(), quadrature=GAUSS)
    x = torch.randn(3, 1, 4)
    together = torch.func.vmap(lambda row: flow(row).log_det)(x)
    torch.testing.assert_close(together, torch.stack([flow(row).log_det for row in x]))


ENERGY = [KineticEnergy(1.0)]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"quadrature": "gauss"}, ["quadrature is 'gauss'", "Quadrature("]),
        ({"penalty_quadrature": 4, "regularizers": ENERGY}, ["penalty_quadrature is 4"]),
        ({"eval_quadrature": Quadrature}, ["eval_quadrature is <class"]),
        ({"penalty_quadrature": GAUSS}, ["penalty_quadrature", "no regularizers", "leave it out"]),
        (
            {"quadrature": GAUSS, "penalty_quadrature": Quadrature(), "regularizers": ENERGY},
            ["penalty_quadrature is at the stages", "is to spare", 'Quadrature("stages")'],
        ),
        (
            {"quadrature": GAUSS, "end_time": torch.tensor(1.0, requires_grad=True)},
            ["end_time wants a gradient", "end_time.item()"],
        ),
    ],
    ids=["name", "number", "class", "nothing-to-integrate", "penalties-at-stages", "moving-end"],
)
def test_what_cannot_go_together_is_refused(arguments: dict[str, Any], fragments: list) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        RegularizedFlow(SmallField(), FINE, **arguments)
    assert [f for f in fragments if f not in str(refusal.value)] == []


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("simpson",), 'rule is \'simpson\'; write "stages", "gauss" or "stratified"'),
        (("gauss",), 'nodes is None; write how many nodes a block has, such as Quadrature("gauss"'),
        (("gauss", 0), "nodes is 0"),
        (("stratified", 1.5), "nodes is 1.5"),
        (("stratified", -2), "nodes is -2"),
        (("stages", 4), "nodes is 4, and the stages are the solver's own"),
    ],
    ids=str,
)
def test_wrong_quadratures(arguments: tuple, fragment: str) -> None:
    with pytest.raises(ValueError, match="Quadrature") as refusal:
        Quadrature(*arguments)
    assert fragment in str(refusal.value)
