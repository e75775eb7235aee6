"""Matching through snapshots: exact paths and velocities, pairs of least cost, and refusals."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from rnode_dyn import (
    Augmented,
    ExactDivergence,
    FixedStep,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Snapshots,
    Solver,
    Standardize,
    Tsit5,
)

TIMES = (0.0, 0.25, 1.0)


@pytest.fixture(autouse=True)
def _double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def shifted(*by: float, count: int = 40) -> list[Tensor]:
    """The same points at every time, moved along."""
    points = torch.randn(count, 2)
    return [points[torch.randperm(count)] + shift for shift in by]


def test_straight_paths_go_from_sample_to_sample_at_an_even_pace() -> None:
    snapshots = Snapshots(TIMES, batch=16)
    chains = snapshots.chained(shifted(0.0, 1.0, -3.0))
    times, places, velocities = (x.unflatten(0, (2, 16)) for x in snapshots.drawn_from(chains))
    for interval, (first, last) in enumerate(pairwise(TIMES)):
        assert ((first <= times[interval]) & (times[interval] <= last)).all()
        slope = (chains[interval + 1] - chains[interval]) / (last - first)
        torch.testing.assert_close(velocities[interval], slope)
        line = chains[interval] + slope * (times[interval] - first)[:, None]
        torch.testing.assert_close(places[interval], line)


def test_splines_go_through_the_samples_smoothly() -> None:
    times = (0.0, 0.3, 0.7, 1.0)
    chains = torch.randn(4, 5, 3)
    snapshots = Snapshots(times, paths="spline")
    at, places, velocities = snapshots.drawn_from(chains)
    for number, (t, place, velocity) in enumerate(zip(at, places, velocities, strict=True)):
        spline = CubicSpline(times, chains[:, number % 5].numpy(), bc_type="natural")
        torch.testing.assert_close(place, torch.from_numpy(spline(t.item())))
        torch.testing.assert_close(velocity, torch.from_numpy(spline(t.item(), 1)))


def test_the_nearest_are_paired() -> None:
    near = Snapshots(TIMES, batch=30).chained(shifted(0.0, 0.01, 0.02))
    far = Snapshots(TIMES, "independent", batch=30).chained(shifted(0.0, 0.01, 0.02))
    assert (near[1] - near[0]).square().sum() < 0.5 * (far[1] - far[0]).square().sum()


def test_the_true_velocity_has_no_error_and_gradients_reach_the_field() -> None:
    """Single points that move: what is regressed on is known, piece by piece."""
    points = [torch.zeros(3, 2), torch.ones(5, 2), torch.full((2, 2), -2.0)]

    class Known(MLPField):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            speed = torch.where(t < TIMES[1], 1 / TIMES[1], -3 / (1 - TIMES[1]))
            return speed.reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)

    loss = Snapshots(TIMES, batch=8).loss(RegularizedFlow(Known(2)), points)
    torch.testing.assert_close(loss.value, torch.zeros(()))
    field = MLPField(2)
    Snapshots(TIMES, batch=8).loss(RegularizedFlow(field), points).value.backward()
    assert any(p.grad is not None and p.grad.any() for p in field.parameters())


@pytest.mark.parametrize("paths", ["straight", "spline"])
def test_a_trained_flow_carries_one_snapshot_to_the_next(paths: Any) -> None:
    torch.manual_seed(0)
    snapshots = shifted(0.0, 0.5, 1.5, count=200)
    field = MLPField(2, hidden=(32, 32))
    flow = RegularizedFlow(field, Solver(Tsit5(), FixedStep(0.125)), ExactDivergence())
    objective = Snapshots(TIMES, paths=paths, batch=64)
    optimizer = torch.optim.Adam(field.parameters(), 1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        objective.loss(flow, snapshots).value.backward()
        optimizer.step()
    with torch.no_grad():
        middle = flow.between(snapshots[0], *TIMES[:2]).z
        end = flow.between(middle, *TIMES[1:]).z
    for found, right in ((middle, snapshots[1]), (end, snapshots[2])):
        torch.testing.assert_close(found.mean(0), right.mean(0), atol=0.15, rtol=0)
        torch.testing.assert_close(found.std(0), right.std(0), atol=0.2, rtol=0)


def test_a_map_in_front_is_passed() -> None:
    """Snapshots are matched where the block sees them."""
    units = Standardize(torch.full((2,), 5.0), torch.full((2,), 2.0))
    model = MultiscaleFlow((2,), [Scale([RegularizedFlow(MLPField(2))])], units)
    given = [torch.full((4, 2), 5.0), torch.full((4, 2), 7.0)]
    torch.manual_seed(0)
    found = Snapshots((0.0, 1.0), batch=4).loss(model, given).value
    torch.manual_seed(0)
    as_seen = [torch.zeros(4, 2), torch.ones(4, 2)]
    alone = Snapshots((0.0, 1.0), batch=4).loss(model.blocks[0], as_seen).value
    torch.testing.assert_close(found, alone)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"times": (0.0,)}, "two or more, in order"),
        ({"times": (0.0, 0.0)}, "two or more, in order"),
        ({"times": (1.0, 0.0)}, "two or more, in order"),
        ({"times": (0.0, float("nan"))}, "two or more, in order"),
        ({"times": (0.0, float("inf"))}, "two or more, in order"),
        ({"times": 1.0}, "times is 1.0"),
        ({"times": "ab"}, "times is 'ab'"),
        ({"times": TIMES, "pairs": "ot"}, "pairs is 'ot'"),
        ({"times": TIMES, "paths": "cubic"}, "paths is 'cubic'"),
        ({"times": TIMES, "batch": 0}, "batch is 0"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Snapshots(**arguments)


def flow(**arguments: Any) -> RegularizedFlow:
    return RegularizedFlow(MLPField(2, **arguments))


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (flow, lambda: shifted(0.0, 1.0), "snapshots are 2, and times are 3"),
        (flow, lambda: torch.zeros(3, 4, 2), "snapshots are a Tensor"),
        (flow, lambda: [*shifted(0.0, 1.0), torch.zeros(4, 3)], "snapshot 2 has shape"),
        (flow, lambda: [*shifted(0.0, 1.0), torch.zeros(0, 2)], "snapshot 2 has shape"),
        (flow, lambda: [*shifted(0.0, 1.0), torch.zeros(2)], "snapshot 2 has shape"),
        (flow, lambda: [*shifted(0.0, 1.0), torch.full((4, 2), torch.nan)], "snapshot 2 holds"),
        (flow, lambda: [*shifted(0.0, 1.0), torch.zeros(4, 2).int()], "floating numbers"),
        (flow, lambda: [*shifted(0.0, 1.0), [[0.0, 1.0]]], "floating tensor"),
        (flow, lambda: [torch.zeros(4, 3)] * 3, "field takes \\(2,\\)"),
        (lambda: flow(condition=1), lambda: shifted(0.0, 1.0, 2.0), "takes a condition"),
        (lambda: Augmented(flow(), 1), lambda: shifted(0.0, 1.0, 2.0), "flow is a Augmented"),
        (
            lambda: MultiscaleFlow((2,), [Scale([flow(), flow()])], LogitTransform(0.1)),
            lambda: shifted(0.0, 1.0, 2.0),
            "2 blocks in 1 scales",
        ),
    ],
)
def test_wrong_snapshots(model: Any, given: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Snapshots(TIMES).loss(model(), given())


def test_times_that_the_precision_cannot_tell_apart_are_refused() -> None:
    """Seconds since 1970: in float32 the interval of 60 s is 0, and one of 100 s is 128 s."""
    seconds = [1.7e9, 1.7e9 + 100]
    points = [x.double() for x in shifted(0.0, 1.0)]
    with pytest.raises(ValueError, match=r"torch.float32 cannot tell apart"):
        Snapshots(seconds).loss(flow().float(), [x.float() for x in points])
    assert torch.isfinite(Snapshots(seconds).loss(flow().double(), points).value)
