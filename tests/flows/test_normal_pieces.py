"""Means of cut normal distributions, and what they make of a straight path's velocity."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from rnode_dyn import ThreeBells
from rnode_dyn.flows.normal_pieces import NormalPieces, truncated_mean

BELLS = ThreeBells(1 / 256, 4 / 256)


def mean_by_quadrature(low: float, high: float) -> float:
    """∫ x φ(x) / ∫ φ(x), scaled by the density's largest value between the limits."""
    top = min(max(low, 0.0), high)
    peak = min(1.0, 1 / (1 + abs(top)))  # the scale on which the density falls there
    low, high = max(low, top - 40 * peak), min(high, top + 40 * peak)

    def weight(x: float) -> float:
        return math.exp((top * top - x * x) / 2)

    mass = quad(weight, low, high, points=[top], epsabs=1e-12, limit=200)[0]
    beyond = quad(
        lambda x: (x - top) * weight(x), low, high, points=[top], epsabs=1e-12, limit=200
    )[0]
    return top + beyond / mass


@settings(max_examples=300, deadline=None)
@given(st.floats(-60, 60), st.floats(-4, 1.7))
def test_a_mean_between_two_limits(low: float, width: float) -> None:
    high = low + 10**width
    exact = torch.tensor([low, high]).tolist()  # as float32 has them
    found = truncated_mean(*torch.tensor(exact)).item()
    assert exact[0] <= found <= exact[1]
    expected = mean_by_quadrature(*exact)
    assert found == pytest.approx(expected, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-math.inf, math.inf, 0.0),
        (0.0, math.inf, math.sqrt(2 / math.pi)),
        (-math.inf, 0.0, -math.sqrt(2 / math.pi)),
        (-1e6, 1e6, 0.0),
        (1e3, math.inf, 1e3),
        (-math.inf, -1e4, -1e4),
        (2.5, 2.5, 2.5),
        (-1e-8, 1e-8, 0.0),
    ],
)
def test_limits_at_the_ends_of_the_line(low: float, high: float, expected: float) -> None:
    found = truncated_mean(torch.tensor(low), torch.tensor(high)).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("level", [0, 1, 128, 251, 252, 254, 255])
def test_noise_within_a_level_is_its_piece(level: int) -> None:
    """Quantiles of noise in the bin are those of the cut normal distribution."""
    pieces = BELLS.pieces(256)
    share = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    places = BELLS(((level + share) / 256)[None]).z[0]
    centre, deviation, low, high = (part[level].double() for part in pieces)

    def below(x: Tensor) -> Tensor:
        return torch.special.ndtr((x - centre) / deviation)

    found = (below(places) - below(low)) / (below(high) - below(low))
    torch.testing.assert_close(found, share, rtol=0, atol=2e-4)


@pytest.mark.parametrize("time", [0.003, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("level", [0, 1, 128, 253, 255])
def test_the_velocity_is_the_mean_of_all_paths_through_a_place(level: int, time: float) -> None:
    """By quadrature over where in its bin the pixel's noise may have been."""
    piece = BELLS.pieces(256).at(torch.tensor([level]))
    centre, deviation, low, high = (part.item() for part in piece)
    typical = centre if abs(level - 127) > 100 and level not in (1,) else (low + high) / 2
    start = min(max(typical, low), high)
    x = (1 - time) * start + 0.7 * time

    grid = torch.linspace(low, high, 400_001, dtype=torch.float64)
    logs = -(((grid - centre) / deviation) ** 2) / 2 - ((x - (1 - time) * grid) / time) ** 2 / 2
    weights = logs.softmax(0)
    expected = (weights * (x - grid) / time).sum().item()
    found = piece.velocity(torch.tensor([x]), torch.tensor([time])).item()
    assert found == pytest.approx(expected, rel=1e-3, abs=2e-3)


def test_at_the_very_start_a_velocity_is_a_number() -> None:
    pieces = BELLS.pieces(256)
    found = pieces.velocity((pieces.low + pieces.high) / 2, torch.zeros(256))
    assert found.isfinite().all()


def test_bins_that_lie_across_a_border_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dark is 0\.1, and 256 levels have no border there"):
        ThreeBells(0.1, 4 / 256).pieces(256)


@pytest.mark.parametrize("ends", [(1, 1), (3, 2)])
@pytest.mark.parametrize("levels", [8, 17, 256])
def test_pieces_follow_each_other_and_meet(ends: tuple[int, int], levels: int) -> None:
    pieces: NormalPieces = ThreeBells(ends[0] / levels, ends[1] / levels).pieces(levels)
    assert (pieces.high > pieces.low).all()
    torch.testing.assert_close(pieces.high[:-1], pieces.low[1:], rtol=0, atol=1e-6)
    parts = pieces.centre.sign().int().tolist()
    assert parts == [-1] * ends[0] + [0] * (levels - sum(ends)) + [1] * ends[1]
