"""A flow as a torch distribution."""

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from rnode_dyn.flows.conditions import refuse_extra
from rnode_dyn.flows.given import check_kind
from rnode_dyn.flows.weights import first_weight
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
            ``forward_shape(shape)``: a flow, a transform, or a chain of them. A conditional one
            has a density under each condition, see :meth:`given`.
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
        self.condition: Tensor | None = None
        self.latent_shape = tuple(model.forward_shape(event_shape))  # type: ignore[operator]
        super().__init__(event_shape=torch.Size(event_shape), validate_args=False)

    def given(self, condition: Tensor) -> "FlowDistribution":
        """Return the distributions under these conditions, one for each.

        Args:
            condition: Vectors ``(*batch, numbers)`` where they are floating; class labels
                ``(*batch,)`` where they are whole numbers.

        Returns:
            A distribution of batch shape ``batch``.

        Raises:
            TypeError: if it is no tensor.
            ValueError: if it is one number, and no vector; or the model takes no condition.

        Example:
            >>> import torch
            >>> from rnode_dyn import MLPField, RegularizedFlow
            >>> flow = RegularizedFlow(MLPField(2, condition=3))
            >>> distribution = FlowDistribution(flow, event_shape=(2,)).given(torch.zeros(4, 3))
            >>> distribution.batch_shape, distribution.sample((5,)).shape
            (torch.Size([4]), torch.Size([5, 4, 2]))
        """
        refuse_extra([self.model], condition)
        return _with_condition(self, condition, _batch_shape(condition))

    def expand(
        self,
        batch_shape: Sequence[int],
        _instance: Any = None,  # torch's own protocol
    ) -> "FlowDistribution":
        """Return distributions of a larger batch shape, under the same conditions."""
        shape = torch.Size(batch_shape)
        if self.condition is None:
            return _with_condition(self, None, shape)
        own = self.condition.shape[len(self.batch_shape) :]
        return _with_condition(self, self.condition.expand(*shape, *own), shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of ``value`` (*sample, *batch, *event_shape), in nats.

        With Hutchinson's divergence it is an unbiased estimate.

        Returns:
            Log-densities, ``(*sample, *batch)``: ``value`` is broadcast over the batch shape.

        Raises:
            TypeError: if the model knows a bound on it alone, see :meth:`log_prob_bound`.
        """
        if self._has_bound:
            raise TypeError(
                f"{type(self.model).__name__} knows a lower bound on log p(x), and not log p(x) "
                "itself: write log_prob_bound(value, samples=…)."
            )
        batch, rows = self._rows(value)
        z, log_det, _ = self.model(rows, **self._condition_for(batch))
        return (standard_normal_log_prob(z) + log_det).reshape(batch)

    def log_prob_bound(self, value: Tensor, samples: int | None = None) -> Tensor:
        """A lower bound on the log-density of ``value``, in nats, where no more is known.

        Args:
            value: As for :meth:`log_prob`.
            samples: Samples of the noise for each value, see :class:`Augmented`.

        Returns:
            Unbiased estimates of the bound, ``(*sample, *batch)``.

        Raises:
            TypeError: if the density itself is known.

        Example:
            >>> from rnode_dyn import Augmented, MLPField, RegularizedFlow
            >>> augmented = Augmented(RegularizedFlow(MLPField(3)), extra=1)
            >>> distribution = FlowDistribution(augmented, event_shape=(2,))
            >>> distribution.log_prob_bound(distribution.sample((5,))).shape
            torch.Size([5])
        """
        if not self._has_bound:
            raise TypeError(
                f"{type(self.model).__name__} knows log p(x) itself, and no bound: write "
                "log_prob(value)."
            )
        batch, rows = self._rows(value)
        given = self._condition_for(batch)
        return self.model.log_prob_bound(rows, samples, **given).reshape(batch)  # type: ignore[operator]

    @property
    def _has_bound(self) -> bool:
        return hasattr(self.model, "log_prob_bound")

    def _rows(self, value: Tensor) -> tuple[torch.Size, Tensor]:
        """The batch shape of values under all conditions, and the values, a row each."""
        check_kind(value, self.model.parameters())
        dims = len(self.event_shape)
        if tuple(value.shape[value.dim() - dims :]) != tuple(self.event_shape):
            raise ValueError(
                f"value has shape {tuple(value.shape)}; its last {dims} axes must be "
                f"{tuple(self.event_shape)}."
            )
        batch = self._broadcast(value.shape[: value.dim() - dims])
        return batch, value.expand(*batch, *self.event_shape).reshape(-1, *self.event_shape)

    def _broadcast(self, batch: torch.Size) -> torch.Size:
        try:
            return torch.broadcast_shapes(batch, self.batch_shape)
        except RuntimeError:
            raise ValueError(
                f"values of batch shape {tuple(batch)} do not go with conditions of batch shape "
                f"{tuple(self.batch_shape)}: give one for each condition, the samples' axes first."
            ) from None

    def _condition_for(self, batch: torch.Size) -> dict[str, Tensor]:
        """The condition of every row of a flattened batch, by name; nothing where there is none."""
        if self.condition is None:
            return {}
        own = self.condition.shape[len(self.batch_shape) :]
        return {"condition": self.condition.expand(*batch, *own).reshape(-1, *own)}

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
        """Draw samples (*sample_shape, *batch, *event_shape) that gradients pass through."""
        batch = torch.Size((*sample_shape, *self.batch_shape))
        like = first_weight(self.model)
        z = torch.randn(batch.numel(), *self.latent_shape, dtype=like.dtype, device=like.device)
        given = self._condition_for(batch)
        samples = self.model.generate(self.temperature * z, **given)  # type: ignore[operator]
        return samples.reshape(*batch, *self.event_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:  # type: ignore[override]
        """Draw samples (*sample_shape, *batch, *event_shape)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


def _with_condition(
    distribution: FlowDistribution, condition: Tensor | None, batch_shape: torch.Size
) -> FlowDistribution:
    new = copy.copy(distribution)
    new.condition, new._batch_shape = condition, batch_shape
    return new


def _batch_shape(condition: Tensor) -> torch.Size:
    """The batch shape of conditions: all axes of labels, all but the last of vectors."""
    if not isinstance(condition, Tensor):
        raise TypeError(
            f"condition is a {type(condition).__name__}; write a tensor: torch.as_tensor(condition)"
            "."
        )
    if not condition.is_floating_point():
        return condition.shape
    if condition.dim() == 0:
        raise ValueError(
            "condition is a single number; write a vector, condition[None], or whole numbers for "
            "class labels."
        )
    return condition.shape[:-1]


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log N(z; 0, I) of each sample, ``(batch,)``.

    Example:
        >>> import torch
        >>> standard_normal_log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    return Normal(0.0, 1.0, validate_args=False).log_prob(z).flatten(1).sum(1)
