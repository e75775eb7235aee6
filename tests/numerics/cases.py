"""What the tests of the numerics share: every implementation, problems, fields, measures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.special import ellipj
from torch import Tensor, nn

from rnode_dyn import (
    BS5,
    RK4,
    RK38,
    SSPRK33,
    SSPRK54,
    AdaptiveHeun,
    BacksolveAdjoint,
    Bosh3,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    Euler,
    Heun,
    InterpolatingAdjoint,
    Kvaerno3,
    Kvaerno5,
    Midpoint,
    ODEProblem,
    Ralston2,
    Ralston3,
    Ralston4,
    ReversibleAdjoint,
    Rodas5P,
    Rosenbrock23,
    Tsit5,
    Vern7,
    Vern9,
)

Field = Callable[[Tensor, Tensor], Tensor]
Span = tuple[float, float]

ALGORITHMS = (
    Euler(),
    Midpoint(),
    Heun(),
    AdaptiveHeun(),
    Bosh3(),
    RK4(),
    RK38(),
    Dopri5(),
    Tsit5(),
    Dopri8(),
    Ralston2(),
    Ralston3(),
    Ralston4(),
    SSPRK33(),
    SSPRK54(),
    BS5(),
    Vern7(),
    Vern9(),
)
STIFF = (Rosenbrock23(), Kvaerno3(), Kvaerno5(), Rodas5P())
EMBEDDED = tuple(a for a in ALGORITHMS if a.embedded_order is not None)
EXACT = (DiscreteAdjoint(), CheckpointedAdjoint(), CheckpointedAdjoint(every=3))
CONTINUOUS = (BacksolveAdjoint(), BacksolveAdjoint(seminorm=False), InterpolatingAdjoint())
SENSITIVITIES = (*EXACT, *CONTINUOUS, ReversibleAdjoint())
FORWARD: Span = (0.0, 1.0)
REVERSED: Span = (1.0, 0.0)


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class RigidBody:
    """Euler's rigid body under a clock that runs unevenly: nonlinear, explicit in time, solved.

    With x(τ) = (sn, cn, dn)(τ | 0.51) and τ = t + 0.3 sin 2t, x(τ(t)) is exact to the last digit.
    """

    modulus = 0.51

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        u, v, w = x.unbind(-1)
        turn = torch.stack([v * w, -u * w, -self.modulus * u * v], -1)
        return (1 + 0.6 * torch.cos(2 * t)) * turn

    def exact(self, t: float) -> Tensor:
        sn, cn, dn, _ = ellipj(t + 0.3 * math.sin(2 * t), self.modulus)
        return float64([[sn, cn, dn]])

    def problem(self, t_span: Span) -> ODEProblem:
        return ODEProblem(self, self.exact(t_span[0]), t_span)


@dataclass(frozen=True)
class Classic:
    """A classic non-stiff problem with its end state by SciPy's DOP853."""

    name: str
    field: Field
    start: tuple[float, ...]
    end_time: float

    def problem(self) -> ODEProblem:
        return ODEProblem(self.field, float64([self.start]), (0.0, self.end_time))

    @cache  # noqa: B019  # the five problems live as long as the tests
    def reference(self) -> Tensor:
        solution = solve_ivp(
            lambda t, x: self.field(float64(t), torch.from_numpy(x)).numpy(),
            (0.0, self.end_time),
            np.array(self.start),
            method="DOP853",
            rtol=1e-12,
            atol=1e-13,
        )
        return torch.from_numpy(solution.y[:, -1])[None]

    def __str__(self) -> str:
        return self.name


def _two_body(t: Tensor, x: Tensor) -> Tensor:
    place, velocity = x.split(2, -1)
    return torch.cat([velocity, -place / place.norm(dim=-1, keepdim=True) ** 3], -1)


def _lotka_volterra(t: Tensor, x: Tensor) -> Tensor:
    prey, hunter = x.unbind(-1)
    return torch.stack([1.5 * prey - prey * hunter, prey * hunter - 3 * hunter], -1)


def _lorenz(t: Tensor, x: Tensor) -> Tensor:
    x1, x2, x3 = x.unbind(-1)
    return torch.stack([10 * (x2 - x1), x1 * (28 - x3) - x2, x1 * x2 - 8 / 3 * x3], -1)


def _oscillator(t: Tensor, x: Tensor) -> Tensor:
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, -place], -1)


def _forced_oscillator(t: Tensor, x: Tensor) -> Tensor:
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, -place - 0.1 * velocity + torch.cos(2 * t)], -1)


ECCENTRICITY = 0.3
CLASSICS = (
    Classic(
        "two-body",
        _two_body,
        (1 - ECCENTRICITY, 0.0, 0.0, math.sqrt((1 + ECCENTRICITY) / (1 - ECCENTRICITY))),
        math.pi,
    ),
    Classic("lotka-volterra", _lotka_volterra, (1.0, 1.0), 5.0),
    Classic("lorenz", _lorenz, (1.0, 1.0, 1.0), 1.0),
    Classic("oscillator", _oscillator, (1.0, 0.0), 10.0),
    Classic("forced-oscillator", _forced_oscillator, (1.0, 0.0), 10.0),
)


class Counter:
    """A plain field that counts its own calls and remembers when they were."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.times: list[float] = []

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.times.append(float(t))
        return self.field(t, x)

    @property
    def calls(self) -> int:
        return len(self.times)


class SmallField(nn.Module):
    """Nonlinear and explicit in time, for states (…, 2); one parameter unused, one frozen."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(2, 2, generator=draw, dtype=torch.float64))
        self.shift = nn.Parameter(torch.randn(2, generator=draw, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.frozen = nn.Parameter(float64([0.3, 0.7]), requires_grad=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.mix + t * self.shift) - self.frozen * x.square() * torch.cos(t)


def small_start() -> Tensor:
    """A batch of two with an event of three dimensions."""
    draw = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(2, 2, 1, 2, generator=draw, dtype=torch.float64)


def measured_order(errors: Sequence[float], counts: Sequence[int]) -> float:
    """The slope of log error over log step, by least squares."""
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())
