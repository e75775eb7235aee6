"""A flow as a torch distribution."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from rnode_dyn.flows.given import check_kind
from rnode_dyn.numerics.numbers import positive


class LogProb(NamedTuple):
    """A log-density and how well it is known.

    Attributes:
        mean: Mean over the repeats, in nats.
        stderr: Its standard error; 0 where the divergence is exact.
    """

    mean: Tensor
    stderr: Tensor


class FlowDistribution(Distribution):
    """The distribution of x where the flow takes x to z ~ N(0, I).

    Args:
        model: Anything with ``forward(x) -> FlowResult``, ``generate(z)`` and
            ``forward_shape(shape)``: a flow, a transform, or a chain of them.
        event_shape: Shape of one sample.
        temperature: Standard deviation of z when sampling; below 1, samples are more typical.
            Densities are those of temperature 1 all the same.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow
        >>> distribution = FlowDistribution(RegularizedFlow(MLPField(2)), event_shape=(2,))
        >>> samples = distribution.sample((5,))
        >>> samples.shape, distribution.log_prob(samples).shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    arg_constraints = {}  # type: ignore[assignment]  # noqa: RUF012  # torch's own protocol
    has_rsample = True

    def __init__(
        self, model: nn.Module, event_shape: Sequence[int], temperature: float = 1.0
    ) -> None:
        self.model = model
        self.temperature = positive("FlowDistribution", "temperature", temperature)
        self.latent_shape = tuple(model.forward_shape(event_shape))  # type: ignore[operator]
        super().__init__(event_shape=torch.Size(event_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of ``value`` (*batch, *event_shape), in nats, shape ``batch``.

        With Hutchinson's divergence it is an unbiased estimate.
        """
        check_kind(value, self.model.parameters())
        dims = len(self.event_shape)
        if tuple(value.shape[value.dim() - dims :]) != tuple(self.event_shape):
            raise ValueError(
                f"value has shape {tuple(value.shape)}; its last {dims} axes must be "
                f"{tuple(self.event_shape)}."
            )
        batch = value.shape[: value.dim() - dims]
        z, log_det, _ = self.model(value.reshape(-1, *self.event_shape))
        return (standard_normal_log_prob(z) + log_det).reshape(batch)

    def __repr__(self) -> str:
        """Name the model, what a sample is, and the temperature."""
        return (
            f"FlowDistribution({type(self.model).__name__}, event_shape={tuple(self.event_shape)}, "
            f"temperature={self.temperature:g})"
        )

    def estimate_log_prob(self, value: Tensor, repeats: int = 16) -> LogProb:
        """Log-density of ``value`` from several solves, each with noise of its own.

        Args:
            value: Samples, ``(*batch, *event_shape)``.
            repeats: How many solves to average over, 2 or more.

        Returns:
            Mean and standard error, each of shape ``batch``. Within one solve the probes of
            ``HutchinsonDivergence(probes=…)`` are averaged already.
        """
        if repeats < 2:
            raise ValueError(
                f"repeats is {repeats}; a standard error takes 2 or more, and log_prob() takes 1."
            )
        estimates = torch.stack([self.log_prob(value) for _ in range(repeats)])
        return LogProb(estimates.mean(0), estimates.std(0) / math.sqrt(repeats))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:  # type: ignore[override]
        """Draw samples (*sample_shape, *event_shape) that gradients pass through."""
        shape = torch.Size(sample_shape)
        like = next(self.model.parameters(), torch.empty(()))
        z = torch.randn(shape.numel(), *self.latent_shape, dtype=like.dtype, device=like.device)
        samples = self.model.generate(self.temperature * z)  # type: ignore[operator]
        return samples.reshape(*shape, *self.event_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:  # type: ignore[override]
        """Draw samples (*sample_shape, *event_shape)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log N(z; 0, I) of each sample, ``(batch,)``.

    Example:
        >>> import torch
        >>> standard_normal_log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    return Normal(0.0, 1.0, validate_args=False).log_prob(z).flatten(1).sum(1)
