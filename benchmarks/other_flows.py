"""Rows against other packages' flows on vectors: torchdyn's and zuko's, each with its own network.

Both sides solve the very same field with the exact trace, Dormand-Prince's method and the same
tolerances; each differentiates as it does when nothing is said of it: torchdyn and zuko by their
adjoints, ours through the steps.
"""

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import NamedTuple, cast

import torch
import zuko
from comparison import TOLERANCE, Outcome, Pair
from torch import Tensor, nn
from torchdyn.core import NeuralODE
from torchdyn.models import CNF, autograd_trace

from rnode_dyn import AdaptiveStep, Dopri5, ExactDivergence, RegularizedFlow, Solver
from rnode_dyn.flows.distribution import standard_normal_log_prob

DIMENSIONS, WIDTHS = 8, (64, 64)

LogProb = Callable[[Tensor], Tensor]
"""log p(x) of every row of x."""

Loss = Callable[[Tensor], Tensor]
"""Mean of −log p(x) over the rows of x."""


class Other(NamedTuple):
    """Another package's flow: its log p, its network, and the field f(t, x) made of that."""

    log_prob: LogProb
    network: nn.Module
    field: nn.Module


class _ZukoField(nn.Module):
    """The field of zuko's transform, its Fourier features of time included."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return cast(Callable, self.transform.f)(t, x)


def zukos(dtype: torch.dtype, tolerance: float) -> Other:
    """Return zuko's flow."""
    flow = zuko.flows.CNF(
        DIMENSIONS,
        activation=nn.Softplus,
        atol=tolerance,
        rtol=tolerance,
        hidden_features=WIDTHS,
    )
    flow.to(dtype).train()
    transform = cast(nn.Module, flow.transform)
    network = cast(nn.Module, transform.ode)
    return Other(lambda x: flow().log_prob(x), network, _ZukoField(transform))


def torchdyns(dtype: torch.dtype, tolerance: float) -> Other:
    """Return torchdyn's flow, whose network is not told the time."""
    layers: list[nn.Module] = []
    for width, after in zip((DIMENSIONS, *WIDTHS), (*WIDTHS, DIMENSIONS), strict=True):
        layers += [nn.Linear(width, after), nn.Softplus()]
    network = nn.Sequential(*layers[:-1]).to(dtype)
    with redirect_stdout(StringIO()):  # it prints that it wraps a field without a time
        model = NeuralODE(
            CNF(network, trace_estimator=autograd_trace),
            sensitivity="adjoint",
            solver="dopri5",
            solver_adjoint="dopri5",
            return_t_eval=False,
            atol=tolerance,
            rtol=tolerance,
            atol_adjoint=tolerance,
            rtol_adjoint=tolerance,
        )
    times = torch.tensor([0.0, 1.0], dtype=dtype)

    def log_prob(x: Tensor) -> Tensor:
        # The first column counts −tr ∂f/∂x.
        y = cast(Tensor, model(torch.cat([x.new_zeros(len(x), 1), x], dim=1), times))[-1]
        return standard_normal_log_prob(y[:, 1:]) - y[:, 0]

    return Other(log_prob, network, network)


def our_loss(field: nn.Module, tolerance: float) -> Loss:
    """Return our loss of a field."""
    solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance))
    flow = RegularizedFlow(field, solver, ExactDivergence()).train()

    def loss(x: Tensor) -> Tensor:
        z, log_det, _ = flow(x)
        return -(standard_normal_log_prob(z) + log_det).mean()

    return loss


class _Evaluations:
    """Counts the calls of a network."""

    def __init__(self, network: nn.Module) -> None:
        self.count = 0
        network.register_forward_hook(self._one_more)

    def _one_more(self, *_: object) -> None:
        self.count += 1


def against(make: Callable[[torch.dtype, float], Other]) -> Callable[[torch.dtype, int], Pair]:
    """Return how a training step of ours and of another package's flow is built."""

    def build(dtype: torch.dtype, batch: int) -> Pair:
        tolerance = TOLERANCE if dtype == torch.float32 else 1e-9
        torch.manual_seed(0)
        other = make(dtype, tolerance)
        for parameter in other.network.parameters():
            nn.init.normal_(parameter, std=0.1)
        evaluations = _Evaluations(other.network)
        x = torch.randn(batch, DIMENSIONS, dtype=dtype)

        def step(loss: Loss) -> Outcome:
            other.network.zero_grad()
            before, value = evaluations.count, loss(x)
            value.backward()
            gradients = [p.grad for p in other.network.parameters() if p.grad is not None]
            return Outcome([value.detach(), *gradients], evaluations.count - before)

        ours = our_loss(other.field, tolerance)
        return Pair(lambda: step(ours), lambda: step(lambda x: -other.log_prob(x).mean()))

    return build
