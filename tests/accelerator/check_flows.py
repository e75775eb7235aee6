"""Flows, divergences, penalties and distributions on the device give what they give on the CPU."""

import pytest
import torch
from torch import Tensor, nn
from torchdyn.nn import DepthCat
from torchdyn.numerics.solvers.hyper import HyperEuler

from rnode_dyn import (
    RK4,
    AdaptiveHeun,
    AdaptiveStep,
    Augmented,
    Bosh3,
    ConditionEmbedding,
    ConvField,
    Dopri5,
    Energy,
    ErrorEstimate,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    FlowResult,
    FrozenNoise,
    MLPField,
    MultiscaleFlow,
    Quadrature,
    RegularizedFlow,
    RegularizedODE,
    Snapshots,
    Solver,
    Stiffness,
    TaylorDerivative,
    Tempered,
    TrajectoryPolynomial,
    UNetField,
    Uniform,
    importance,
    penalty,
    sample_with_log_prob,
)
from tests.accelerator.models import image_model
from tests.accelerator.twins import Figures, agree, gradients
from tests.flows.cases import (
    DIVERGENCES,
    FEW_STEPS,
    REGULARIZERS,
    SENSITIVITIES,
    SmallField,
    name_of,
    randomize,
)

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

STEPPINGS = [FixedStep(1.0), AdaptiveStep(3e-2, 3e-2)]
FIELDS = {
    "mlp": lambda: MLPField(4, hidden=(5,)),
    "image-mlp": lambda: MLPField((1, 2, 2), hidden=(5,)),
    "conv": lambda: ConvField(1, hidden=(3,)),
    "unet": lambda: UNetField(1, width=8, levels=1, attention=True),
    "plain-module": SmallField,
    "frozen-noise": lambda: FrozenNoise(SmallField(), seed=1),
}


def points(*event: int) -> Tensor:
    return torch.rand(3, *event)


def figures_of(result: FlowResult) -> Figures:
    return {"z": result.z, "log_det": result.log_det, **result.penalties}


def differentiated(flow: nn.Module, x: Tensor) -> Figures:
    """Everything that a flow gives, and the gradient of its sum."""
    x.requires_grad_()
    result = flow(x)
    total = (
        result.z.sin().sum() + result.log_det.sum() + sum(map(torch.sum, result.penalties.values()))
    )
    total.backward()
    return {**figures_of(result), **gradients([x, *flow.parameters()])}


CELLS = [
    *((divergence, s, FixedStep(1.0)) for divergence in DIVERGENCES for s in SENSITIVITIES),
    *((DIVERGENCES[0], s, AdaptiveStep(0.1, 0.1)) for s in SENSITIVITIES),
]


@pytest.mark.parametrize(("divergence", "sensitivity", "stepping"), CELLS, ids=name_of)
def test_every_divergence_with_all_penalties(divergence, sensitivity, stepping) -> None:
    solver = Solver(AdaptiveHeun(), stepping, sensitivity)
    agree(
        lambda: (RegularizedFlow(SmallField(), solver, divergence, REGULARIZERS), points(4)),
        differentiated,
    )


@pytest.mark.parametrize("rule", ["gauss", "stratified"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_integrals_at_nodes(sensitivity, rule) -> None:
    """Random nodes are times, and times are the host's: they are drawn there, beforehand here."""

    def nodes(count: int) -> Quadrature:
        return Quadrature(rule, count).drawn_once(torch.zeros(1))

    solver = Solver(RK4(), FixedStep(0.5), sensitivity)
    agree(
        lambda: (
            RegularizedFlow(
                SmallField(), solver, DIVERGENCES[-1], REGULARIZERS,
                quadrature=nodes(3),
                penalty_quadrature=nodes(1),
            ),
            points(4),
        ),
        differentiated,
    )  # fmt: skip


@pytest.mark.one_in(3)
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=name_of)
@pytest.mark.parametrize("field", FIELDS)
def test_every_field_with_each_penalty(field, regularizer) -> None:
    event = {"unet": (1, 4, 4), "conv": (1, 2, 2), "image-mlp": (1, 2, 2)}.get(field, (4,))
    agree(
        lambda: (
            RegularizedFlow(randomize(FIELDS[field]()), FEW_STEPS, regularizers=[regularizer]),
            points(*event),
        ),
        differentiated,
    )


def test_the_higher_derivatives() -> None:
    regularizers = [TaylorDerivative(1.0, order=3)]
    agree(
        lambda: (RegularizedFlow(SmallField(), FEW_STEPS, regularizers=regularizers), points(4)),
        differentiated,
    )


def test_an_augmented_flow_and_its_bound() -> None:
    def use(augmented: Augmented, x: Tensor) -> Figures:
        bound = augmented(x.requires_grad_(), samples=2)
        (bound.log_prob_bound + bound.weighted).sum().backward()
        return {"bound": bound.log_prob_bound, **gradients([x, *augmented.parameters()])}

    def build() -> tuple[Augmented, Tensor]:
        flow = RegularizedFlow(SmallField(6), FEW_STEPS, ExactDivergence(), REGULARIZERS)
        return Augmented(flow, extra=2), points(4)

    agree(build, use)


class LooksThere(TrajectoryPolynomial):
    """Looks at given times: those that are drawn are drawn on the CPU."""

    def draw(self, like: Tensor) -> list[float]:
        return [0.2, 0.7]


def test_what_steps_and_states_say_of_themselves() -> None:
    regularizers = [ErrorEstimate(1.0), Stiffness(1.0), LooksThere(1.0)]
    solver = Solver(Dopri5(), FixedStep(0.5))
    agree(
        lambda: (RegularizedFlow(SmallField(), solver, regularizers=regularizers), points(4)),
        differentiated,
    )


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_a_layer_and_its_penalty(sensitivity) -> None:
    solver = Solver(AdaptiveHeun(), FixedStep(0.5), sensitivity)

    def build() -> tuple[RegularizedODE, Tensor]:
        end = Uniform(0.5, 1.5)
        return RegularizedODE(SmallField(6), solver, REGULARIZERS, end, augment=2).eval(), points(4)

    def use(layer: RegularizedODE, x: Tensor) -> Figures:
        result = layer(x.requires_grad_())
        weighted = penalty(layer)
        (result.sin().sum() + weighted).backward()
        return {"x": result, "penalty": weighted, **gradients([x, *layer.parameters()])}

    agree(build, use)


@pytest.mark.parametrize("stepping", STEPPINGS, ids=name_of)
def test_the_way_back_and_the_states_alone(stepping) -> None:
    def use(flow: RegularizedFlow, z: Tensor) -> Figures:
        times = torch.linspace(0.0, 1.0, 4)
        return {
            **figures_of(flow.inverse(z)),
            "generated": flow.generate(z),
            "trajectory": flow.trajectory(z, times.to(z.device)),
            "odeint": flow.odeint(z, times.to(z.device))[1],
        }

    agree(lambda: (RegularizedFlow(SmallField(), Solver(Bosh3(), stepping)), points(4)), use)


def test_a_function_as_the_field() -> None:
    agree(
        lambda: (RegularizedFlow(lambda t, x: (t - x).sin(), FEW_STEPS), points(4)), differentiated
    )


def test_the_solver_of_evaluation() -> None:
    def use(flow: RegularizedFlow, x: Tensor) -> Figures:
        flow.eval()
        return figures_of(flow(x))

    agree(
        lambda: (
            RegularizedFlow(
                SmallField(), FEW_STEPS, eval_solver=Solver(RK4(), FixedStep(0.1)),
                eval_divergence=DIVERGENCES[-1],
            ),
            points(4),
        ),
        use,
    )  # fmt: skip


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_autocast(sensitivity) -> None:
    def use(flow: RegularizedFlow, x: Tensor) -> Figures:
        with torch.autocast(x.device.type, torch.bfloat16):
            result = flow(x)
        (result.z.sum() + result.log_det.sum()).backward()
        return {"z": result.z, **gradients(flow.parameters())}

    def make() -> tuple:
        field = randomize(MLPField(4, hidden=(5,)))
        solver = Solver(RK4(), FixedStep(0.5), sensitivity)
        return RegularizedFlow(field, solver).float(), points(4).float()

    agree(make, use, rtol=1e-2)


class FromTorchdyn(nn.Module):
    """A field that torchdyn's own layer hands the time to."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(DepthCat(1), nn.Linear(5, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the field."""
        return self.layers(x)


def test_a_field_of_torchdyn() -> None:
    agree(lambda: (RegularizedFlow(FromTorchdyn(), FEW_STEPS), points(4)), differentiated)


class Correction(nn.Module):
    """A hypersolver's network."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return what the base method misses."""
        return self.gain * x


def test_a_hypersolver_moves_with_its_flow() -> None:
    def make() -> tuple:
        solver = Solver(HyperEuler(Correction()), FixedStep(0.5))
        return RegularizedFlow(MLPField(4, hidden=(5,)), eval_solver=solver).eval(), points(4)

    def use(flow: RegularizedFlow, x: Tensor) -> Figures:
        return {"trajectory": flow.trajectory(x, (0.0, 1.0))}

    agree(make, use)


@pytest.mark.parametrize("preprocess", ["logit", "shift"])
def test_a_multiscale_model_there_and_back(preprocess) -> None:
    def use(model: MultiscaleFlow, x: Tensor) -> Figures:
        back = model.inverse(model(x).z)
        return {
            **differentiated(model, x),
            "generated": model.generate(model(x).z),
            "back": back.z,
            "log_det_back": back.log_det,
        }

    agree(lambda: (image_model(preprocess), points(1, 8, 8)), use, rtol=1e-9)


def test_a_distribution_of_a_flow() -> None:
    def use(model: MultiscaleFlow, x: Tensor) -> Figures:
        distribution = FlowDistribution(model, (1, 8, 8), temperature=0.7)
        estimate = distribution.estimate_log_prob(x, repeats=2)
        return {
            "log_prob": distribution.log_prob(x),
            "mean": estimate.mean,
            "stderr": estimate.stderr,
            "sample": distribution.sample((2,)),
            "rsample": distribution.rsample((2, 1)),
        }

    agree(lambda: (image_model(), points(1, 8, 8)), use, rtol=1e-9)


CONDITIONS = {"vectors": {"condition": 2}, "labels": {"classes": 3}}


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_conditional_flow(kind, sensitivity) -> None:
    def make() -> tuple:
        field = randomize(MLPField(4, hidden=(5,), **CONDITIONS[kind], embedding=3))
        assert isinstance(field.embedding, ConditionEmbedding)
        condition = torch.randn(3, 2) if kind == "vectors" else torch.tensor([0, 2, 1])
        solver = Solver(RK4(), FixedStep(0.5), sensitivity)
        return RegularizedFlow(field, solver), points(4), condition

    def use(flow: RegularizedFlow, x: Tensor, condition: Tensor) -> Figures:
        given = FlowDistribution(flow, (4,)).given(condition)
        result = flow(x, condition=condition)
        (result.z.sin().sum() + result.log_det.sum()).backward()
        return {
            **figures_of(result),
            **gradients(flow.parameters()),
            "log_prob": given.log_prob(x),
            "sample": given.sample((2,)),
        }

    agree(make, use)


def test_matching_snapshots() -> None:
    """One sample at each time, so that nothing depends on which is drawn but the times."""

    def use(flow: RegularizedFlow, x: Tensor) -> Figures:
        drawn = Snapshots([0.0, 1.0], batch=2).chained([x[:1], x[1:2]])
        assert drawn.device.type == x.device.type
        return {"chains": drawn}

    agree(lambda: (RegularizedFlow(SmallField(), FEW_STEPS), points(4)), use)


def test_training_from_an_energy_and_weighing_samples() -> None:
    def energy(x: Tensor) -> Tensor:
        return -x.square().sum(1)

    def use(flow: RegularizedFlow) -> Figures:
        loss = Energy(energy).loss(flow, 3).value
        loss.backward()
        found, taken = importance(flow, energy, 4), sample_with_log_prob(flow, 2)
        return {
            "loss": loss,
            "hot": Tempered(energy, hottest=4.0, steps=2).at(1).loss(flow, 3).value,
            **gradients(flow.parameters()),
            "weights": found.log_weights,
            "samples": taken.samples,
            "log_prob": taken.log_prob,
        }

    agree(
        lambda: (
            RegularizedFlow(
                randomize(MLPField(4, hidden=(5,))), FEW_STEPS, ExactDivergence(), REGULARIZERS
            ),
        ),
        use,
    )


def test_a_flow_of_the_device_takes_no_data_of_the_cpu() -> None:
    flow = RegularizedFlow(SmallField(), FEW_STEPS).to("accel")
    with pytest.raises((RuntimeError, ValueError), match=r"same device|parameters are on accel"):
        flow(points(4))
