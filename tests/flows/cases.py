"""Solvers, fields and small helpers that the tests of the flows share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    RK38,
    AdaptiveHeun,
    AdaptiveStep,
    BacksolveAdjoint,
    Bosh3,
    CheckpointedAdjoint,
    DirectionalDerivative,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    Euler,
    ExactDivergence,
    FixedStep,
    FlowResult,
    Heun,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    JacobianFrobenius,
    KineticEnergy,
    Midpoint,
    ReversibleAdjoint,
    Solver,
    TotalDerivative,
    Tsit5,
)
from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm

ALGORITHMS = [Euler(), Midpoint(), Heun(), AdaptiveHeun(), RK4(), Bosh3(), Dopri5(), Tsit5()]
ALGORITHMS += [RK38(), Dopri8()]
EMBEDDED = [a for a in ALGORITHMS if a.embedded_order is not None]
SENSITIVITIES = [
    DiscreteAdjoint(),
    CheckpointedAdjoint(),
    BacksolveAdjoint(),
    InterpolatingAdjoint(),
    ReversibleAdjoint(),
]
DIVERGENCES = [
    HutchinsonDivergence("gaussian"),
    HutchinsonDivergence("rademacher", probes=2),
    ExactDivergence(),
]
REGULARIZERS = [
    KineticEnergy(1.0),
    JacobianFrobenius(1.0),
    DirectionalDerivative(1.0),
    TotalDerivative(1.0),
]
FEW_STEPS = Solver(RK4(), FixedStep(0.5))
FINE = Solver(Tsit5(), FixedStep(0.125))


def name_of(value: object) -> str:
    """Name a parametrized part by its class, a divergence by its noise."""
    noise = getattr(value, "noise", "")
    return f"{type(value).__name__}{'-' if noise else ''}{noise}"


def randomize(module: nn.Module, std: float = 0.5) -> nn.Module:
    """Draw every parameter afresh, those that start at zero too."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


class SmallField(nn.Module):
    """A nonlinear field of images that depends on time, in plain torch.

    It holds what trips an adjoint up: a parameter that it never uses and one that is frozen.
    """

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.mix = nn.Parameter(0.6 * torch.randn(size, size))
        self.time = nn.Parameter(torch.randn(size))
        self.unused = nn.Parameter(torch.randn(3))
        self.gain = nn.Parameter(0.5 + torch.rand(size), requires_grad=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        flat = x.flatten(1)
        # Spelled out with expand: forward-mode AD is several times slower on broadcasting.
        phase = self.time * torch.sin(t.expand_as(self.time) * 2)
        inside = flat @ self.mix + phase.expand_as(flat)
        return (self.gain.expand_as(flat) * torch.tanh(inside)).view_as(x)


@dataclass(frozen=True)
class RecordedStep(AdaptiveStep):
    """Adaptive steps that note where each accepted one ended."""

    ends: list[float] = field(default_factory=list, compare=False)

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the accepted steps."""
        for step in super().steps(algorithm, rhs, x, t_span, stats, norm):
            self.ends.append(step.t1)
            yield step


@dataclass(frozen=True)
class ReplayedStep(FixedStep):
    """Steps with given ends: an adaptive solve's grid, held still to difference over it."""

    ends: tuple[float, ...] = ()

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,  # part of the protocol
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the steps."""
        t, slope = t_span[0], None
        for end in self.ends:
            step = algorithm.advance(rhs, t, end - t, x, slope)
            step.ends_at = end
            yield step
            t, x, slope = end, step.x1, step.slope_at_end(rhs)


def outputs(result: FlowResult) -> dict[str, Tensor]:
    """One number for the state, one for the log-determinant and one for every penalty.

    Each weighs samples and entries unequally, so that no two errors cancel.
    """
    weights = torch.linspace(0.5, 1.5, result.z.numel(), dtype=result.z.dtype)
    per_sample = torch.linspace(1.0, 2.0, len(result.z), dtype=result.z.dtype)
    return {
        "state": (weights.view_as(result.z) * result.z.sin()).sum(),
        "log_det": per_sample @ result.log_det,
        **{name: per_sample @ value for name, value in result.penalties.items()},
    }


def loss(result: FlowResult) -> Tensor:
    """Return all of the outputs in one number."""
    return torch.stack(list(outputs(result).values())).sum()


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Lay tensors end to end."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
