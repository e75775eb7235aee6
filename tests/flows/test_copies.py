"""Copies, pickles, averages and state dicts, before and after training."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchdyn.nn import DepthCat

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    ConvField,
    Dopri5,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.flows.result import FlowResult
from tests.flows.cases import REGULARIZERS, SENSITIVITIES, SmallField, loss, name_of, randomize


def solver(sensitivity: object) -> Solver:
    return Solver(RK4(), FixedStep(0.5), sensitivity)  # type: ignore[arg-type]


def plain(sensitivity: object) -> nn.Module:
    return RegularizedFlow(
        MLPField((1, 2, 2), (4,)), solver(sensitivity), regularizers=REGULARIZERS
    )


def fallback(sensitivity: object) -> nn.Module:
    return RegularizedFlow(SmallField(), solver(sensitivity), regularizers=REGULARIZERS)


def depth(sensitivity: object) -> nn.Module:
    field = nn.Sequential(DepthCat(1), nn.Conv2d(2, 2, 1), nn.Tanh(), nn.Conv2d(2, 1, 1))
    return RegularizedFlow(field, solver(sensitivity), regularizers=REGULARIZERS)


def multiscale(sensitivity: object) -> nn.Module:
    def block(channels: int) -> RegularizedFlow:
        return RegularizedFlow(ConvField(channels, (3,)), solver(sensitivity))

    scales = [Scale([block(1)], squeeze=True, split=True), Scale([block(2)])]
    return MultiscaleFlow((1, 2, 2), scales, LogitTransform(0.05))


BUILDERS = [plain, fallback, depth, multiscale]
Copier = Callable[[nn.Module], nn.Module]


def trained(build: Callable[[object], nn.Module], sensitivity: object) -> nn.Module:
    """Return a model after two steps of training."""
    model = build(sensitivity)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss(model(torch.rand(3, 1, 2, 2))).backward()
        optimizer.step()
    return model


def solved(model: nn.Module, x: Tensor) -> FlowResult:
    torch.manual_seed(1)
    return model(x)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
@pytest.mark.parametrize("build", BUILDERS)
def test_a_copy_after_training_computes_the_same_and_trains_apart(
    build: Callable[[object], nn.Module], sensitivity: object, duplicate: Copier
) -> None:
    model = trained(build, sensitivity)
    copied, x = duplicate(model), torch.rand(3, 1, 2, 2)
    before = solved(model, x)
    torch.testing.assert_close(tuple(solved(copied, x)), tuple(before))
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(tuple(solved(model, x)), tuple(before))
    assert not torch.allclose(solved(copied, x).log_det, before.log_det)


@pytest.mark.parametrize("build", BUILDERS)
def test_averaged_model_follows_training(build: Callable[[object], nn.Module]) -> None:
    model = trained(build, CheckpointedAdjoint())
    start = [p.detach().clone() for p in model.parameters()]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    average.update_parameters(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    average.update_parameters(model)
    expected = [p + 0.25 for p in start]
    torch.testing.assert_close([p.detach() for p in average.parameters()], expected)
    assert torch.isfinite(average(torch.rand(2, 1, 2, 2)).log_det).all()


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), InterpolatingAdjoint()], ids=name_of)
@pytest.mark.parametrize("divergence", [ExactDivergence(), HutchinsonDivergence("rademacher", 2)])
def test_state_dict_loads_into_a_flow_solved_another_way(
    sensitivity: object, divergence: object
) -> None:
    first = RegularizedFlow(randomize(MLPField(2, (4,))), solver(CheckpointedAdjoint()))
    second = RegularizedFlow(
        MLPField(2, (4,)),
        Solver(Dopri5(), AdaptiveStep(1e-9, 1e-9), sensitivity),  # type: ignore[arg-type]
        divergence,  # type: ignore[arg-type]
        [KineticEnergy(1.0)],
        end_time=2.0,
        eval_solver=solver(CheckpointedAdjoint()),
    )
    second.load_state_dict(first.state_dict())
    t, x = torch.tensor(0.3), torch.randn(3, 2)
    torch.testing.assert_close(second.field(t, x), first.field(t, x))


def test_state_dict_holds_the_fields_parameters_and_nothing_else() -> None:
    field = MLPField(2, (4,))
    flow = RegularizedFlow(field, regularizers=REGULARIZERS)
    assert len(flow.state_dict()) == len(field.state_dict())
    assert {id(p) for p in flow.parameters()} == {id(p) for p in field.parameters()}


def test_a_field_without_parameters_gets_none() -> None:
    assert list(RegularizedFlow(lambda t, x: t * x).parameters()) == []
