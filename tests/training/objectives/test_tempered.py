"""A temperature that falls while a flow trains: the schedule, and the modes it finds."""

import pytest
import torch

from rnode_dyn import RK4, Energy, FixedStep, MLPField, RegularizedFlow, Solver, Tempered


def normal(x):
    return -0.5 * x.square().sum(1)


def test_the_logarithm_of_the_temperature_falls_evenly_and_ends_at_1():
    found = [Tempered(normal, 16.0, 4).temperature(step) for step in range(6)]
    assert found == pytest.approx([16.0, 8.0, 4.0, 2.0, 1.0, 1.0])


def test_the_objective_of_a_step_is_the_energy_at_its_temperature():
    tempered = Tempered(normal, 9.0, 2, event_shape=(2,))
    assert tempered.at(1) == Energy(normal, 3.0, (2,))
    assert tempered.at(2) == Energy(normal, 1.0, (2,))
    # The identity, to begin with: its samples are standard normal.
    flow = RegularizedFlow(MLPField(2), Solver(RK4(), FixedStep(1.0)))
    torch.manual_seed(0)
    hot = tempered.at(0).loss(flow, 4096).value
    # E log N − E log p̃ / T = −log 2π − 1 + 1/T
    assert hot.item() == pytest.approx(-1.8379 - 1 + 1 / 9, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((normal, 0.5, 10), "hottest is 0.5"),
        ((normal, float("nan"), 10), "hottest"),
        ((normal, 2.0, 0), "steps"),
        ((normal, 2.0, 1.5), "steps"),
    ],
)
def test_schedules_that_are_none_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Tempered(*arguments)


def test_a_density_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="log_density is 3"):
        Tempered(3, 2.0, 10)


@pytest.mark.parametrize("step", [-1, float("nan"), float("inf"), "1", None])
def test_steps_that_are_none_are_refused(step):
    with pytest.raises(ValueError, match="how many steps have been made"):
        Tempered(normal, 2.0, 10).temperature(step)
