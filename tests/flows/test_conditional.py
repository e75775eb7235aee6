"""Conditional flows: densities, gradients of the condition, and what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Compose,
    ConvField,
    Divergence,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    FrozenNoise,
    HutchinsonDivergence,
    KineticEnergy,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    ODEProblem,
    RegularizedFlow,
    Scale,
    Sensitivity,
    Shift,
    Solver,
    Standardize,
    TotalDerivative,
    Tsit5,
    UNetField,
)
from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.at_times import at_times
from rnode_dyn.fields.conditioned import conditioned

from .cases import SENSITIVITIES

DIVERGENCES = [ExactDivergence(), HutchinsonDivergence()]


class OwnField(nn.Module):
    """A field of a user's, which knows nothing of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        return self.net(torch.cat([x, condition], dim=1)) * (1 + t)


class Subclassed(MLPField):
    """One of ours whose forward is another: what the condition is prepared for is not its."""

    def forward(self, t, x, condition=None, args=None):
        return super().forward(t, x, 2 * condition)


FIELDS: dict[str, Callable[[], nn.Module]] = {
    "ours": lambda: moved(MLPField(2, (8,), condition=3)),
    "embedded": lambda: moved(MLPField(2, (8,), condition=3, embedding=4)),
    "a user's": OwnField,
    "a subclass": lambda: moved(Subclassed(2, (8,), condition=3)),
    "frozen noise": lambda: FrozenNoise(moved(MLPField(2, (8,), condition=3))),
}


def moved(module: nn.Module) -> nn.Module:
    """Away from the identity, at which a flow begins."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def flow_of(field: nn.Module, sensitivity: Sensitivity | None = None, **named) -> RegularizedFlow:
    fixed = {"stepping": FixedStep(0.25)}
    if sensitivity is not None:
        fixed["sensitivity"] = sensitivity
    return RegularizedFlow(field, Solver(RK4(), **fixed), **named)


def seeded_loss(flow: RegularizedFlow, x: Tensor, condition: Tensor) -> Tensor:
    torch.manual_seed(1)
    z, log_det, penalties = flow(x, condition=condition)
    return (z.square().sum(1) + log_det + sum(penalties.values())).sum()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=["exact", "hutchinson"])
def test_every_sensitivity_reaches_the_network_behind_the_condition(
    name: str, divergence: Divergence
) -> None:
    encoder, field, x, seen = nn.Linear(4, 3), FIELDS[name](), torch.randn(3, 2), torch.randn(3, 4)
    regularizers = [KineticEnergy(1.0), TotalDerivative(1.0)]
    gradients = []
    for sensitivity in SENSITIVITIES:
        tight = Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9), sensitivity)
        flow = RegularizedFlow(field, tight, divergence, regularizers)
        loss = seeded_loss(flow, x, encoder(seen))
        wanted = [encoder.weight, *field.parameters()]
        gradients.append(torch.autograd.grad(loss, wanted, allow_unused=True))
    for other in gradients[1:]:
        for ours, theirs in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=["exact", "hutchinson"])
def test_the_gradient_of_the_condition_is_that_of_finite_differences(
    sensitivity: Sensitivity, divergence: Divergence
) -> None:
    field, x = moved(MLPField(2, (8,), condition=3)), torch.randn(2, 2)
    tight = Solver(Tsit5(), AdaptiveStep(1e-11, 1e-11), sensitivity)
    flow = RegularizedFlow(field, tight, divergence, [KineticEnergy(1.0)])
    condition = torch.randn(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(seeded_loss(flow, x, condition), condition)
    for entry in range(condition.numel()):
        step = torch.zeros(condition.numel())
        step[entry] = 1e-5
        ends = [seeded_loss(flow, x, condition.detach() + s * step.view(2, 3)) for s in (1, -1)]
        found = float((ends[0] - ends[1]).detach()) / 2e-5
        assert math.isclose(float(gradient.flatten()[entry]), found, rel_tol=1e-5, abs_tol=1e-7)


@pytest.mark.parametrize("name", FIELDS)
def test_a_sample_does_not_see_the_others_conditions(name: str) -> None:
    flow = flow_of(FIELDS[name](), divergence=ExactDivergence())
    x, condition = torch.randn(4, 2), torch.randn(4, 3)
    together = flow(x, condition=condition)
    for i in range(4):
        alone = flow(x[i : i + 1], condition=condition[i : i + 1])
        torch.testing.assert_close(alone.z[0], together.z[i])
        torch.testing.assert_close(alone.log_det[0], together.log_det[i])


@pytest.mark.parametrize("name", FIELDS)
def test_it_goes_there_and_back(name: str) -> None:
    flow = RegularizedFlow(
        FIELDS[name](), Solver(stepping=AdaptiveStep(1e-9, 1e-9)), ExactDivergence()
    )
    x, condition = torch.randn(4, 2), torch.randn(4, 3)
    there = flow(x, condition=condition)
    back = flow.inverse(there.z, condition=condition)
    torch.testing.assert_close(back.z, x, atol=1e-7, rtol=0)
    torch.testing.assert_close(back.log_det, -there.log_det, atol=1e-7, rtol=0)
    torch.testing.assert_close(flow.generate(there.z, condition=condition), x, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", FIELDS)
def test_each_sample_has_its_condition_at_a_time_of_its_own(name: str) -> None:
    field, x, condition, t = FIELDS[name](), torch.randn(5, 2), torch.randn(5, 3), torch.rand(5)
    together = at_times(conditioned(as_field(field), condition, x), t, x)
    for i in range(5):
        alone = field(t[i], x[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_own_products_are_those_of_autograd() -> None:
    field, t, x, v = moved(MLPField(2, (8, 8), classes=3)), torch.tensor(0.3), *torch.randn(2, 4, 2)
    labels = torch.tensor([0, 2, 1, 2])
    value, product = field.value_and_vjp(t, x, v, labels)
    x.requires_grad_()
    torch.testing.assert_close(value, field(t, x, labels))
    (wanted,) = torch.autograd.grad(field(t, x, labels), x, v)
    torch.testing.assert_close(product, wanted)


def test_no_warning_of_a_product_that_is_not_used(recwarn: pytest.WarningsRecorder) -> None:
    flow = flow_of(moved(MLPField(2, (8,), classes=3, embedding=4)))
    flow(torch.randn(3, 2), condition=torch.tensor([0, 1, 2]))
    assert not [w for w in recwarn if "is not used" in str(w.message)]


def image_flow() -> MultiscaleFlow:
    blocks = [flow_of(moved(ConvField(c, (4,), classes=3))) for c in (1, 2)]
    scales = [Scale(blocks[:1], squeeze=True, split=True), Scale(blocks[1:])]
    return MultiscaleFlow((1, 4, 4), scales, preprocess=Shift(-0.5))


def test_a_multiscale_flow_hands_labels_to_every_block() -> None:
    flow, x = image_flow(), torch.rand(3, 1, 4, 4)
    one, other = (flow(x, condition=torch.full((3,), label)).z for label in (0, 1))
    assert not torch.allclose(one[:, 8:], other[:, 8:])
    labels = torch.tensor([0, 1, 2])
    z = flow(x, condition=labels).z
    torch.testing.assert_close(flow.generate(z, condition=labels), x, atol=5e-3, rtol=0)
    torch.testing.assert_close(flow.inverse(z, condition=labels).z, x, atol=5e-3, rtol=0)


def test_a_unet_sees_its_class() -> None:
    field = moved(UNetField(1, 8, 2, classes=3))
    flow, x = flow_of(field, divergence=HutchinsonDivergence()), torch.rand(3, 1, 4, 4)
    one, other = (flow(x, condition=torch.full((3,), label)).z for label in (0, 1))
    assert not torch.allclose(one, other)
    with pytest.raises(ValueError, match="condition is missing"):
        flow(x)


def test_a_chain_hands_it_to_those_that_take_it() -> None:
    units = Standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
    plain, told = flow_of(moved(MLPField(2, (4,)))), flow_of(moved(MLPField(2, (4,), condition=1)))
    chain, x, c = Compose([units, plain, told]), torch.randn(3, 2), torch.randn(3, 1)
    y = plain(units(x).z).z
    torch.testing.assert_close(chain(x, condition=c).z, told(y, condition=c).z)


def test_conditions_have_their_own_units() -> None:
    units = Standardize(torch.tensor([5.0]), torch.tensor([2.0]))
    block = flow_of(moved(MLPField(2, (4,), condition=1)))
    flow = MultiscaleFlow((2,), [Scale([block])], preprocess_condition=units)
    x, c = torch.randn(3, 2), torch.randn(3, 1)
    torch.testing.assert_close(flow(x, condition=5 + 2 * c).z, block(x, condition=c).z)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "frozen noise"])
def test_each_sample_takes_steps_of_its_own_under_its_condition(name: str) -> None:
    alike, apart = (AdaptiveStep(1e-9, 1e-9, per_sample=own) for own in (False, True))
    field, x, condition = FIELDS[name](), torch.randn(4, 2), torch.randn(4, 3)
    results = [
        RegularizedFlow(field, Solver(stepping=s), ExactDivergence())(x, condition=condition)
        for s in (alike, apart)
    ]
    torch.testing.assert_close(results[0].z, results[1].z, atol=1e-6, rtol=0)
    torch.testing.assert_close(results[0].log_det, results[1].log_det, atol=1e-6, rtol=0)


class TestDistribution:
    def test_it_is_batched_over_conditions(self) -> None:
        flow = flow_of(moved(MLPField(2, (8,), condition=3)), divergence=ExactDivergence())
        given = FlowDistribution(flow, (2,)).given(torch.randn(4, 5, 3))
        assert given.batch_shape == (4, 5)
        x = given.sample((6,))
        assert x.shape == (6, 4, 5, 2)
        assert given.log_prob(x).shape == (6, 4, 5)
        assert given.log_prob(x[0, 0, 0]).shape == (4, 5)
        assert given.expand((7, 4, 5)).log_prob(x[0]).shape == (7, 4, 5)

    def test_each_density_is_that_of_its_condition(self) -> None:
        flow = flow_of(moved(MLPField(2, (8,), classes=3)), divergence=ExactDivergence())
        distribution, x = FlowDistribution(flow, (2,)), torch.randn(4, 2)
        together = distribution.given(torch.arange(3)[:, None]).log_prob(x)
        for label in range(3):
            alone = distribution.given(torch.tensor(label)).log_prob(x)
            torch.testing.assert_close(together[label], alone)

    def test_it_integrates_to_one(self) -> None:
        flow = flow_of(moved(MLPField(1, (8,), condition=1)), divergence=ExactDivergence())
        grid = torch.linspace(-12, 12, 801)
        given = FlowDistribution(flow, (1,)).given(torch.tensor([[-1.0], [2.0]]))
        density = given.log_prob(grid[:, None, None]).exp()
        mass = torch.trapezoid(density, grid, dim=0)
        torch.testing.assert_close(mass, torch.ones(2), atol=2e-3, rtol=0)

    def test_gradients_reach_the_condition_through_samples(self) -> None:
        flow = flow_of(moved(MLPField(2, (8,), condition=3)))
        condition = torch.randn(4, 3, requires_grad=True)
        FlowDistribution(flow, (2,)).given(condition).rsample((2,)).sum().backward()
        assert condition.grad is not None
        assert bool(condition.grad.abs().sum(1).all())

    def test_values_that_do_not_go_with_the_conditions_are_refused(self) -> None:
        given = FlowDistribution(flow_of(MLPField(2, condition=1)), (2,)).given(torch.zeros(4, 1))
        with pytest.raises(ValueError, match=r"batch shape \(3,\).*batch shape \(4,\)"):
            given.log_prob(torch.zeros(3, 2))

    def test_a_flow_without_conditions_has_none_to_be_given(self) -> None:
        with pytest.raises(ValueError, match="a condition was given"):
            FlowDistribution(flow_of(MLPField(2)), (2,)).given(torch.zeros(1))


class TestObjectives:
    @pytest.mark.parametrize("objective", [FlowMatching(), Likelihood()], ids=["fm", "ml"])
    def test_gradients_reach_the_condition(self, objective: FlowMatching | Likelihood) -> None:
        flow = flow_of(moved(MLPField(2, (8,), condition=3)))
        condition = torch.randn(4, 3, requires_grad=True)
        objective.loss(flow, torch.randn(4, 2), condition=condition).value.backward()
        assert condition.grad is not None
        assert bool(condition.grad.abs().sum(1).all())

    @pytest.mark.parametrize("objective", [FlowMatching(), Likelihood()], ids=["fm", "ml"])
    def test_a_block_is_a_flow_of_one_scale(self, objective: FlowMatching | Likelihood) -> None:
        block, x = flow_of(moved(MLPField(2, (8,), classes=3))), torch.randn(4, 2)
        labels = torch.tensor([0, 1, 2, 0])
        losses = []
        for flow in (block, MultiscaleFlow((2,), [Scale([block])])):
            torch.manual_seed(3)
            losses.append(objective.loss(flow, x, condition=labels).value)
        torch.testing.assert_close(*losses)

    def test_noise_is_exchanged_under_the_same_condition_only(self) -> None:
        flow = flow_of(moved(MLPField(2, (8,), condition=1)))
        x, apart, alike = torch.randn(16, 2), torch.randn(16, 1), torch.arange(16.0)[:, None] % 2
        losses = {}
        for coupling in ("independent", "minibatch-ot"):
            for name, condition in (("apart", apart), ("alike", alike)):
                torch.manual_seed(0)
                loss = FlowMatching(coupling).loss(flow, x, condition=condition)
                losses[coupling, name] = loss.value
        assert losses["independent", "apart"] == losses["minibatch-ot", "apart"]
        assert losses["independent", "alike"] != losses["minibatch-ot", "alike"]


LABELS, VECTORS = {"classes": 3}, {"condition": 2}
BAD = {
    "none": (VECTORS, None, ValueError, "condition is missing"),
    "no label": (LABELS, None, ValueError, "condition is missing"),
    "one too many": ({}, torch.zeros(4, 2), ValueError, "takes none|no part"),
    "another number of columns": (VECTORS, torch.zeros(4, 3), ValueError, r"vectors of 2 numbers"),
    "another batch": (VECTORS, torch.zeros(3, 2), ValueError, r"\(3, 2\) for 4 samples"),
    "another batch of labels": (LABELS, torch.arange(3), ValueError, r"\(3,\) for 4 samples"),
    "a single number": (VECTORS, torch.tensor(1.0), ValueError, r"for 4 samples"),
    "a label too high": (LABELS, torch.arange(4), ValueError, "the label 3.*from 0 to 2"),
    "a label below": (LABELS, torch.arange(4) - 1, ValueError, "the label -1.*from 0 to 2"),
    "labels as floats": (LABELS, torch.zeros(4), TypeError, "float32.*class labels"),
    "labels as columns": (LABELS, torch.zeros(4, 1).long(), ValueError, r"\(4, 1\).*class labels"),
    "vectors of whole numbers": (VECTORS, torch.zeros(4, 2).long(), TypeError, "int64.*floating"),
    "another precision": (VECTORS, torch.zeros(4, 2).float(), TypeError, "write condition.to"),
    "a list": (VECTORS, [[0.0, 0.0]] * 4, TypeError, "condition is a list"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("multiscale", [False, True], ids=["block", "multiscale"])
def test_what_does_not_fit_is_refused_before_anything_is_computed(
    name: str, multiscale: bool
) -> None:
    declared, condition, error, words = BAD[name]
    flow = flow_of(MLPField(2, (4,), **declared))
    flow.field.activation = None  # nothing can be computed
    model = MultiscaleFlow((2,), [Scale([flow])]) if multiscale else flow
    x = torch.zeros(4, 2)
    for call in (model, model.inverse, model.generate):
        with pytest.raises(error, match=words):
            call(x, condition=condition)
    for objective in (FlowMatching(), Likelihood()):
        with pytest.raises(error, match=words):
            objective.loss(model, x, condition=condition)


def test_a_users_field_is_held_to_its_signature() -> None:
    x, told = torch.zeros(4, 2), RegularizedFlow(lambda t, x, condition: condition * x)
    with pytest.raises(ValueError, match="condition is missing"):
        told(x)
    with pytest.raises(ValueError, match=r"\(3, 1\) for 4 samples"):
        told(x, condition=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="the field takes none"):
        RegularizedFlow(lambda t, x: x)(x, condition=torch.zeros(4, 1))


@pytest.mark.parametrize(
    "field",
    [
        lambda t, x, condition: condition * x,
        lambda t, x, c: c * x,
        lambda x, *, t, condition: condition * x,
        lambda x, t, condition: condition * x,
        lambda x, condition: condition * x,
        lambda t, x, condition=None: condition * x,
        lambda *given: given[2] * given[1],
    ],
)
def test_however_a_field_is_written_it_gets_its_condition(field: Callable) -> None:
    flow = RegularizedFlow(field, Solver(RK4(), FixedStep(0.1)))
    x, c = torch.ones(2, 1), torch.tensor([[0.5], [-0.5]])
    torch.testing.assert_close(flow(x, condition=c).z, c.exp(), atol=1e-6, rtol=0)


def test_a_solver_alone_knows_no_conditions() -> None:
    with pytest.raises(TypeError, match="also takes condition"):
        ODEProblem(lambda t, x, condition: x, torch.ones(1, 1), (0.0, 1.0))
