"""Training from an unnormalised density, of which there are no samples; and weighing the samples.

A flow is drawn from, and what it draws is compared with the density where it lies: the reverse
Kullback-Leibler divergence. Each sample comes with its log-density, of one solve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnode_dyn.flows.conditions import handed, refuse_extra
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.share import drawn
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.numbers import positive, whole
from rnode_dyn.training.objectives.base import Loss

LogDensity = Callable[[Tensor], Tensor]


class Drawn(NamedTuple):
    """Samples of a flow.

    Attributes:
        samples: The samples, ``(n, *event)``.
        log_prob: Their log-density under the flow, ``(n,)``.
        penalties: The regularizers' integrals on the way, by name, each ``(n,)``.
    """

    samples: Tensor
    log_prob: Tensor
    penalties: dict[str, Tensor]


def sample_with_log_prob(
    flow: MultiscaleFlow | RegularizedFlow,
    count: int,
    event_shape: tuple[int, ...] | None = None,
    condition: Tensor | None = None,
) -> Drawn:
    """Draw samples with their log-densities, by one solve; gradients pass through both.

    Args:
        flow: The flow.
        count: How many.
        event_shape: Shape of a sample; left out, that of a multiscale flow, or of a field that
            knows its dimension, such as ``MLPField``.
        condition: Of a conditional flow, a row a sample.

    Example:
        >>> from rnode_dyn import MLPField
        >>> samples, log_prob, _ = sample_with_log_prob(RegularizedFlow(MLPField(2)), 3)
        >>> samples.shape, log_prob.shape
        (torch.Size([3, 2]), torch.Size([3]))
    """
    _check_flow(flow)
    refuse_extra([flow], condition)
    like = first_weight(flow)
    shape = tuple(flow.forward_shape(_event_of(flow) if event_shape is None else event_shape))
    empty = like.new_empty(whole("sample_with_log_prob", "count", count), *shape)
    z = drawn(torch.randn_like, empty.detach())
    back: FlowResult = flow.inverse(z, **handed(flow, condition))
    return Drawn(back.z, standard_normal_log_prob(z) - back.log_det, back.penalties)


def _check_flow(flow: nn.Module) -> None:
    if not isinstance(flow, MultiscaleFlow | RegularizedFlow):
        raise TypeError(
            f"flow is a {type(flow).__name__}, which does not tell the density of what it draws; "
            "write a RegularizedFlow or a MultiscaleFlow."
        )


def _event_of(flow: nn.Module) -> tuple[int, ...]:
    if isinstance(flow, MultiscaleFlow):
        return flow.event_shape
    size = getattr(getattr(flow, "field", None), "dim", None)
    if size is None:
        raise ValueError(
            "the flow does not know the shape of a sample: write event_shape=…, or put it into a "
            "MultiscaleFlow."
        )
    return size


@dataclass(frozen=True)
class Energy:
    """Reverse Kullback-Leibler from an unnormalised density, and the weighted penalties.

    The loss is the mean of log q(x) − log p̃(x) over samples x of the flow, with the penalties of
    all blocks in their weights. It is at least −log Z, which it reaches where the flow is the
    density. A flow that begins in one mode may stay there: a temperature that falls from a large
    one to 1 while it trains lets it find others (tempering).

    Args:
        log_density: log p̃ of samples ``(n, *event)``, as ``(n,)``; without its constant.
        temperature: What log p̃ is divided by.
        event_shape: Shape of a sample, where the flow does not know it.

    Example:
        >>> from rnode_dyn import MLPField
        >>> energy = Energy(lambda x: -0.5 * x.square().sum(1))
        >>> round(float(energy.loss(RegularizedFlow(MLPField(2)), 64).value), 4)
        -1.8379
    """

    log_density: LogDensity
    temperature: float = 1.0
    event_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not callable(self.log_density):
            raise TypeError(f"log_density is {self.log_density!r}; write a function of samples.")
        number = positive("Energy", "temperature", self.temperature)
        object.__setattr__(self, "temperature", number)

    def loss(
        self,
        flow: MultiscaleFlow | RegularizedFlow,
        count: int,
        condition: Tensor | None = None,
    ) -> Loss:
        """Return the loss on so many samples.

        Raises:
            TypeError: if the density is no tensor.
            ValueError: if it has another shape than ``(n,)``, is NaN or +∞ somewhere, or has no
                gradient where the samples have one.
        """
        found = sample_with_log_prob(flow, count, self.event_shape, condition)
        density = checked_density(self.log_density, found.samples)
        _refuse_without_gradient(density, found.samples)
        divergence = (found.log_prob - density / self.temperature).mean()
        penalty = _weighted(flow, found.penalties)
        figures = {"reverse_kl": divergence.detach()}
        figures |= {name: value.detach().mean() for name, value in found.penalties.items()}
        return Loss(divergence + penalty, figures)


def _refuse_without_gradient(density: Tensor, samples: Tensor) -> None:
    if samples.requires_grad and not density.requires_grad:
        raise ValueError(
            "log_density returned numbers without a gradient, so that the flow would not learn of "
            "it: compute it by torch from the samples as they are, without detach(), no_grad() or "
            "NumPy."
        )


def _blocks(flow: MultiscaleFlow | RegularizedFlow) -> list[RegularizedFlow]:
    return flow.blocks if isinstance(flow, MultiscaleFlow) else [flow]


def _weighted(
    flow: MultiscaleFlow | RegularizedFlow, penalties: dict[str, Tensor]
) -> Tensor | float:
    """The mean of the weighted penalties; of several blocks, which may not weigh them otherwise."""
    blocks = _blocks(flow)
    weights = {frozenset((r.name, r.weight) for r in block.regularizers) for block in blocks}
    if len(weights) > 1:
        raise ValueError(
            "the blocks of the flow weigh penalties each in its own way, and Energy() knows their "
            "sums only: give all blocks the same regularizers."
        )
    return blocks[0].weigh(penalties).mean() if penalties else 0.0


def checked_density(log_density: LogDensity, samples: Tensor) -> Tensor:
    """Evaluate a log-density, and refuse what is none.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another shape than ``(n,)``, or is NaN or +∞ somewhere.

    Example:
        >>> checked_density(lambda x: x, torch.zeros(3, 2))
        Traceback (most recent call last):
        ValueError: log_density returned shape (3, 2) for 3 samples: it must return one number ...
    """
    density = log_density(samples)
    if not isinstance(density, Tensor):
        raise TypeError(
            f"log_density returned a {type(density).__name__}: it must return a tensor."
        )
    if density.shape != samples.shape[:1]:
        raise ValueError(
            f"log_density returned shape {tuple(density.shape)} for {len(samples)} samples: it "
            "must return one number for each, (n,)."
        )
    bad = density.isnan() | (density == math.inf)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        value, number = density.detach()[first].item(), int(bad.sum())
        raise ValueError(
            f"log_density is {value} at {number} of {len(samples)} "
            f"samples, the first at {samples[first].flatten()[:8].tolist()}: it must be a number, "
            "or −inf where there is no density."
        )
    return density


class Importance(NamedTuple):
    """Samples of a flow, weighed for a density.

    Attributes:
        log_z: log of the density's integral.
        log_z_stderr: Its standard error, by the spread of the weights.
        ess: Effective sample size as a fraction: 1 where the flow is the density.
        samples: The samples, ``(n, *event)``.
        log_weights: log p̃ − log q of each, ``(n,)``.
    """

    log_z: float
    log_z_stderr: float
    ess: float
    samples: Tensor
    log_weights: Tensor


@torch.no_grad()
def importance(
    flow: MultiscaleFlow | RegularizedFlow,
    log_density: LogDensity,
    count: int,
    *,
    event_shape: tuple[int, ...] | None = None,
    condition: Tensor | None = None,
) -> Importance:
    """Weigh samples of a flow for a density, which gives its integral without bias.

    The flow's divergence has to be exact, and no nodes of its quadrature random: an estimate would
    bias every weight. In evaluation mode that is ``eval_divergence``, where there is one.

    Args:
        flow: The flow.
        log_density: As for :class:`Energy`.
        count: How many samples, 2 or more.
        event_shape: As for :func:`sample_with_log_prob`.
        condition: Of a conditional flow, the condition of all samples, a row each.

    Raises:
        TypeError: if the density is no tensor.
        ValueError: if the log-determinant is an estimate, or the density none.

    Example:
        >>> from rnode_dyn import ExactDivergence, MLPField
        >>> flow = RegularizedFlow(MLPField(2), divergence=ExactDivergence())
        >>> found = importance(flow, lambda x: -0.5 * x.square().sum(1), 100)
        >>> round(found.log_z, 4), round(found.ess, 4)
        (1.8379, 1.0)
    """
    _check_flow(flow)
    if whole("importance", "count", count) < 2:
        raise ValueError("count is 1: a standard error takes 2 samples or more.")
    for block in _blocks(flow):
        if (estimate := block.estimated_by) is not None:
            raise ValueError(
                f"the flow's log-determinant is estimated by {estimate}, whose noise would bias "
                "the weights: build it with divergence=ExactDivergence(), or eval_divergence and "
                ".eval(), and no random nodes."
            )
    found = sample_with_log_prob(flow, count, event_shape, condition)
    log_weights = checked_density(log_density, found.samples) - found.log_prob
    return Importance(*_integral(log_weights), found.samples, log_weights)


def _integral(log_weights: Tensor) -> tuple[float, float, float]:
    """Log Z, its standard error by the delta method, and the effective sample size."""
    wide, count = log_weights.double(), len(log_weights)
    log_z = float(wide.logsumexp(0) - math.log(count))
    if log_z == -math.inf:
        raise ValueError("the density is 0 at every sample: the flow lies elsewhere; train it.")
    relative = (wide - log_z).exp()
    stderr = float(relative.std()) / math.sqrt(count)
    return log_z, stderr, float(relative.sum().square() / relative.square().sum()) / count
