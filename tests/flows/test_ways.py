"""Ways through the latent space, and halves drawn anew, against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    ConvField,
    Dopri5,
    FixedStep,
    FlowDistribution,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    VariationalDequantization,
    inpaint,
    interpolate,
)
from rnode_dyn.flows.interpolation import on_circle


def flow_of(*fields: nn.Module) -> MultiscaleFlow:
    solver = Solver(Dopri5(), AdaptiveStep(1e-6, 1e-6))
    return MultiscaleFlow((2,), [Scale([RegularizedFlow(f, solver) for f in fields])])


class Matched(nn.Module):
    """The velocity that matching learns of data ~ N(0, Σ): E[z − x | x_t] of straight paths."""

    takes_times = True

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.covariance = covariance

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        eye = torch.eye(2)
        spread = (1 - t) ** 2 * self.covariance + t**2 * eye
        slope = t * eye - (1 - t) * self.covariance
        return x @ torch.linalg.solve(spread, slope.T).mT.T


@pytest.mark.parametrize("count", [2, 5])
def test_ways_begin_and_end_where_they_are_asked_to(count: int) -> None:
    field = MLPField(2, (8,))
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=0.5)
    flow, ends = flow_of(field), torch.randn(2, 4, 2)
    found = interpolate(flow, ends[0], ends[1], count)
    assert found.shape == (4, count, 2)
    torch.testing.assert_close(found[:, 0], ends[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, -1], ends[1], rtol=0, atol=1e-4)


def test_arcs_go_at_an_even_pace_from_one_radius_to_the_other() -> None:
    start, end = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    for share in (0.0, 0.25, 0.5, 1.0):
        radius, angle = 3 + 2 * share, math.pi / 2 * share
        expected = torch.tensor([[radius * math.cos(angle), radius * math.sin(angle)]])
        torch.testing.assert_close(on_circle(start, end, torch.tensor(share)), expected)


@pytest.mark.parametrize("end", [[2.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
def test_vectors_without_an_arc_are_joined_by_a_line(end: list[float]) -> None:
    start, half = torch.tensor([[1.0, 0.0]]), torch.tensor(0.5)
    expected = (start + torch.tensor([end])) / 2
    torch.testing.assert_close(on_circle(start, torch.tensor([end]), half), expected)


def test_ends_that_do_not_belong_together_are_refused() -> None:
    flow = flow_of(MLPField(2))
    with pytest.raises(ValueError, match="give one of each"):
        interpolate(flow, torch.zeros(2, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="write 2 or more"):
        interpolate(flow, torch.zeros(2, 2), torch.zeros(2, 2), 1)


def test_what_is_drawn_depends_on_what_is_known_as_the_data_do() -> None:
    """Of a Gaussian: the conditional mean, and about its deviation of 0.6, as documented."""
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    flow = flow_of(Matched(covariance))
    samples = FlowDistribution(flow, (2,)).sample((2000,))
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=0.12)
    x, known = torch.full((2000, 2), 1.5), torch.tensor([True, False])
    drawn = inpaint(flow, x, known, steps=40, repeats=8)
    assert bool((drawn[:, 0] == 1.5).all())
    assert abs(float(drawn[:, 1].mean()) - 1.2) < 0.15
    assert 0.55 < float(drawn[:, 1].std()) < 0.8


def test_masks_may_differ_from_sample_to_sample() -> None:
    flow = flow_of(MLPField(2))
    flow = MultiscaleFlow((2,), flow.scale_list(), LogitTransform(0.05))
    x, known = torch.rand(3, 2), torch.tensor([[True, True], [False, True], [False, False]])
    drawn = inpaint(flow, x, known, steps=3, repeats=2)
    assert torch.equal(drawn[known], x[known])
    assert not bool((drawn == x)[~known].any())


def test_what_stands_at_unknown_places_does_not_matter() -> None:
    """Not even to a step in front of the block that looks at whole samples."""
    shape = (1, 1, 4)
    front = VariationalDequantization(shape, 4, width=8)
    for parameter in front.parameters():
        nn.init.normal_(parameter, std=0.3)
    flow = MultiscaleFlow(shape, [Scale([RegularizedFlow(lambda t, x: -x.roll(1, -1))])], front)
    known = torch.tensor([[[True, True, False, False]]])
    x = torch.rand(3, *shape)
    found = []
    for hidden in (0.1, 0.9, math.nan):
        torch.manual_seed(0)
        there = torch.where(known, x, hidden)
        found.append(inpaint(flow, there, known, steps=3, repeats=2))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        (torch.ones(2), TypeError, "known is torch.float32; write a boolean"),
        ([True, False], TypeError, "known is list; write a boolean"),
        (torch.ones(3, dtype=torch.bool), ValueError, r"known has shape \(3,\)"),
    ],
)
def test_masks_that_are_none_are_refused(known: Tensor, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        inpaint(flow_of(MLPField(2)), torch.zeros(4, 2), known)


def test_several_blocks_and_no_steps_are_refused() -> None:
    x, known = torch.zeros(1, 2), torch.tensor([True, False])
    with pytest.raises(ValueError, match="this flow has 2: take one with scales = 1"):
        inpaint(flow_of(MLPField(2), MLPField(2)), x, known)
    with pytest.raises(ValueError, match="steps is 0"):
        inpaint(flow_of(MLPField(2)), x, known, steps=0)


def test_a_block_alone_is_the_flow_of_it_alone() -> None:
    block = RegularizedFlow(ConvField(1, (4,)), Solver(Dopri5(), FixedStep(0.5)))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    flow, ends = MultiscaleFlow((1, 4, 4), [Scale([block])]), torch.randn(2, 3, 1, 4, 4)
    torch.testing.assert_close(interpolate(block, *ends), interpolate(flow, *ends))
    known = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert inpaint(block, ends[0], known, steps=2).shape == (3, 1, 4, 4)


@pytest.mark.parametrize(
    "scales",
    [
        lambda block: [Scale([], [block], squeeze=True)],
        lambda block: [Scale([], split=True), Scale([block])],
    ],
)
def test_a_block_that_sees_other_coordinates_is_refused(scales) -> None:
    """Its field, which takes any shape, would be that of other states."""
    flow = MultiscaleFlow((2, 4, 4), scales(RegularizedFlow(lambda t, x: -x)))
    with pytest.raises(ValueError, match="before any squeeze or split"):
        inpaint(flow, torch.zeros(1, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
