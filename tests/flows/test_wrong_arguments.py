"""A mistake is answered when the flow is built, with what was given and what to write."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    DirectionalDerivative,
    ErrorEstimate,
    ExactDivergence,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    Solver,
    Stiffness,
    TaylorDerivative,
    TotalDerivative,
    TrajectoryPolynomial,
)
from rnode_dyn.flows.regularizers import Regularizer
from tests.flows.cases import FEW_STEPS

PENALTIES = [KineticEnergy, JacobianFrobenius, DirectionalDerivative, TotalDerivative]
PENALTIES += [TaylorDerivative, ErrorEstimate, Stiffness, TrajectoryPolynomial]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"solver": RK4()}, ["solver is RK4()", "Solver("]),
        ({"solver": "dopri5"}, ["solver is 'dopri5'", "Solver("]),
        ({"solver": Solver}, ["solver is <class", "Solver("]),
        ({"eval_solver": "dopri5"}, ["eval_solver is 'dopri5'", "Solver("]),
        ({"eval_solver": 0}, ["eval_solver is 0", "Solver("]),
        ({"divergence": "exact"}, ["divergence is 'exact'", "HutchinsonDivergence("]),
        ({"divergence": ExactDivergence}, ["divergence is <class", "HutchinsonDivergence("]),
        ({"eval_divergence": 3}, ["eval_divergence is 3", "HutchinsonDivergence("]),
        ({"eval_divergence": ""}, ["eval_divergence is ''", "HutchinsonDivergence("]),
        ({"regularizers": KineticEnergy(0.01)}, ["regularizers", "[KineticEnergy("]),
        ({"regularizers": [KineticEnergy]}, ["regularizers", "[KineticEnergy("]),
        ({"regularizers": [0.01]}, ["regularizers holds 0.01", "[KineticEnergy("]),
        ({"regularizers": [KineticEnergy(1), KineticEnergy(2)]}, ["kinetic_energy", "twice"]),
        ({"end_time": 0}, ["end_time is 0", "positive"]),
        ({"end_time": -1.0}, ["end_time is -1.0", "positive"]),
        ({"end_time": float("inf")}, ["end_time is inf", "positive"]),
        ({"end_time": float("nan")}, ["end_time is nan", "positive"]),
        ({"end_time": "1"}, ["end_time is '1'", "positive"]),
        ({"field": 3}, ["field is a int", "f(t, x)"]),
    ],
    ids=lambda value: (
        "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_wrong_part_of_a_flow(arguments: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        RegularizedFlow(**{"field": MLPField(2), **arguments})
    assert [f for f in fragments if f not in str(refusal.value)] == []


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "0.01", None])
def test_wrong_weight(penalty: type[Regularizer], weight: Any) -> None:
    with pytest.raises(ValueError, match=rf"{penalty.__name__}: weight is {weight!r}"):
        penalty(weight)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"noise": "normal"}, ["noise is 'normal'", "gaussian", "rademacher"]),
        ({"probes": 0}, ["probes is 0", "1 or more"]),
        ({"probes": 1.5}, ["probes is 1.5", "whole number"]),
    ],
    ids=str,
)
def test_wrong_noise(arguments: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(ValueError, match="HutchinsonDivergence") as refusal:
        HutchinsonDivergence(**arguments)
    assert [f for f in fragments if f not in str(refusal.value)] == []


def test_adaptive_steps_without_an_error_estimate_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RK4 has no error estimate.*FixedStep"):
        Solver(RK4(), AdaptiveStep(1e-3, 1e-3))


def too_narrow(t: Tensor, x: Tensor) -> Tensor:  # a field's signature
    return x[:, :1]


@pytest.mark.parametrize("divergence", [HutchinsonDivergence(), ExactDivergence()])
def test_a_field_of_another_shape_is_told_both_shapes(divergence: Any) -> None:
    flow = RegularizedFlow(too_narrow, FEW_STEPS, divergence)
    for call in (flow, flow.inverse, flow.generate):
        with pytest.raises(ValueError, match="field returned shape") as refusal:
            call(torch.zeros(5, 2))
        assert "1)" in str(refusal.value)
        assert "2)" in str(refusal.value)


@pytest.mark.parametrize("call", ["forward", "inverse", "generate"])
@pytest.mark.parametrize("x", [torch.zeros(3, 2, dtype=torch.long), [[0.0, 1.0]]], ids=str)
def test_samples_that_are_not_floating_tensors_are_refused(call: str, x: Any) -> None:
    flow = RegularizedFlow(MLPField(2), FEW_STEPS)
    with pytest.raises(TypeError, match=r"floating"):
        getattr(flow, call)(x)


def test_weights_of_zero_add_nothing_to_the_loss() -> None:
    flow = RegularizedFlow(MLPField(2), FEW_STEPS, regularizers=[KineticEnergy(0.0)])
    assert flow.weigh({"kinetic_energy": torch.tensor([torch.nan])}) == 0


def test_weighted_sum_of_the_penalties() -> None:
    regularizers = [KineticEnergy(0.5), JacobianFrobenius(2.0)]
    flow = RegularizedFlow(MLPField(2), FEW_STEPS, regularizers=regularizers)
    penalties = {
        "kinetic_energy": torch.tensor([1.0, 2.0]),
        "jacobian_frobenius": torch.tensor([3.0, 4.0]),
    }
    torch.testing.assert_close(flow.weigh(penalties), torch.tensor([6.5, 9.0]))
