"""Straight paths through a multiscale flow against an index walk that is done by hand."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Shift,
)
from rnode_dyn.flows.straight_paths import Leg, exit_times, legs
from tests.flows.stacks import STACKS, Stack

every_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
every_pace = pytest.mark.parametrize("pace", [1.0, 1.5, 2.0])


def flow_of(stack: Stack) -> MultiscaleFlow:
    return stack.build(lambda shape: MLPField(shape, (2,)))


def ends(stack: Stack, batch: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, prod(stack.event)), torch.randn(batch, prod(stack.event))


def at_fraction(leg: Leg, data: Tensor, noise: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    return leg.at(data, noise, torch.full((len(data),), fraction * leg.flow.end_time))


@every_stack
def test_exit_times_are_those_of_the_walk(stack: Stack) -> None:
    assert exit_times(flow_of(stack)).tolist() == stack.exits()


@every_stack
def test_each_leg_is_a_block_in_its_own_layout(stack: Stack) -> None:
    model, exits = flow_of(stack), np.array(stack.exits())
    route = legs(model)
    assert [leg.flow for leg in route] == model.blocks
    assert [leg.number for leg in route] == list(range(len(model.blocks)))
    assert [leg.flow.end_time for leg in route] == stack.end_times
    for leg, layout in zip(route, stack.layouts(), strict=True):
        assert leg.coordinates.tolist() == layout.tolist()
        assert leg.exits.tolist() == exits[layout].tolist()


@every_pace
@every_stack
def test_positions_are_those_of_each_coordinate_alone(stack: Stack, pace: float) -> None:
    data, noise = ends(stack)
    exits, fractions = stack.exits(), [0.1, 0.5, 0.9]
    for leg, layout in zip(legs(flow_of(stack), pace=pace), stack.layouts(), strict=True):
        t = torch.tensor(fractions) * leg.flow.end_time
        x, velocity = leg.at(data, noise, t)
        assert x.shape == velocity.shape == (3, *layout.shape)
        for place in np.ndindex(*layout.shape):
            d = layout[place]
            for i, fraction in enumerate(fractions):
                done = 1 - (1 - (leg.number + fraction) / exits[d]) ** pace
                a, z = data[i, d].item(), noise[i, d].item()
                assert x[(i, *place)].item() == pytest.approx((1 - done) * a + done * z)


@every_pace
@every_stack
def test_velocity_is_the_positions_derivative(stack: Stack, pace: float) -> None:
    data, noise = ends(stack)
    for leg in legs(flow_of(stack), pace=pace):
        t, step = torch.tensor([0.2, 0.5, 0.7]) * leg.flow.end_time, 1e-4
        ahead, behind = (leg.at(data, noise, t + h)[0] for h in (step, -step))
        velocity = leg.at(data, noise, t)[1]
        torch.testing.assert_close(velocity, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@every_pace
@every_stack
def test_paths_begin_at_the_data(stack: Stack, pace: float) -> None:
    data, noise = ends(stack)
    x, _ = at_fraction(legs(flow_of(stack), pace=pace)[0], data, noise, 0.0)
    assert torch.equal(x.flatten(1), data[:, torch.as_tensor(stack.layouts()[0]).flatten()])


@every_pace
@every_stack
def test_a_block_goes_on_where_the_one_before_ended(stack: Stack, pace: float) -> None:
    data, noise = ends(stack)
    route = legs(flow_of(stack), pace=pace)
    for leg, following in pairwise(route):
        end, _ = at_fraction(leg, data, noise, 1.0)
        start, _ = at_fraction(following, data, noise, 0.0)
        where = {int(d): i for i, d in enumerate(leg.coordinates.flatten())}
        staying = [where[int(d)] for d in following.coordinates.flatten()]
        torch.testing.assert_close(start.flatten(1), end.flatten(1)[:, staying])


@every_pace
@every_stack
def test_what_leaves_is_the_noise_itself(stack: Stack, pace: float) -> None:
    data, noise = ends(stack)
    left = set()
    for leg in legs(flow_of(stack), pace=pace):
        x = at_fraction(leg, data, noise, 1.0)[0].flatten(1)
        coordinates, leaves = leg.coordinates.flatten(), leg.exits.flatten() == leg.number + 1
        which = coordinates[leaves]
        assert torch.equal(x[:, leaves], noise[:, which])
        assert not torch.isclose(x[:, ~leaves], noise[:, coordinates[~leaves]]).any()
        left |= set(which.tolist())
    assert left == set(range(prod(stack.event)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_paths_have_the_precision_of_the_data(dtype: torch.dtype) -> None:
    stack = STACKS["image, one split"]
    data, noise = (vectors.to(dtype) for vectors in ends(stack))
    for leg in legs(flow_of(stack)):
        x, velocity = leg.at(data, noise, torch.rand(3, dtype=dtype))
        assert x.dtype == velocity.dtype == dtype


@pytest.mark.parametrize("step", [LogitTransform(0.05), Shift(-0.5)])
def test_a_step_between_the_blocks_that_computes_is_refused(step: torch.nn.Module) -> None:
    def block() -> RegularizedFlow:
        return RegularizedFlow(MLPField(2, (2,)))

    model = MultiscaleFlow((2,), [Scale([block()]), Scale([step, block()])])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=rf"scale 1 has a {type(step).__name__}.*preprocess"):
        legs(model)


def test_a_transform_in_front_is_none_of_the_paths_concern() -> None:
    scale = Scale([RegularizedFlow(MLPField(2, (2,)))])
    model = MultiscaleFlow((2,), [scale], preprocess=LogitTransform(0.05))
    assert len(legs(model)) == 1
