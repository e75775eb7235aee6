"""Flows with room for more: extra variables of noise, for a bound on the density."""

import math
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from rnode_dyn.fields.condition import check_rows
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.conditions import refuse_extra, takes_condition
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.given import check_batch, check_kind
from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.share import drawn
from rnode_dyn.numerics.numbers import whole


class Bound(NamedTuple):
    """What an augmented flow knows of a batch.

    Attributes:
        log_prob_bound: A lower bound on log p(x), estimated without bias, ``(batch,)``, in nats.
        penalties: The regularizers' integrals by name, unweighted, means over the samples of the
            noise, each ``(batch,)``.
        weighted: Σ weight · penalty, likewise.
    """

    log_prob_bound: Tensor
    penalties: dict[str, Tensor]
    weighted: Tensor


class Augmented(nn.Module):
    """A flow of (x, e), where e is noise: more expressive than one of x, with a bound for log p(x).

    Trajectories of x may cross in the room that e makes. The density of x is no longer known, but

        log p(x) ≥ E log 1/k Σᵢ p(x, eᵢ)/q(eᵢ),   e₁ … eₖ ~ q = N(0, I),

    which grows with k towards log p(x) (Huang et al., Augmented normalizing flows, 2020; Burda et
    al., Importance weighted autoencoders, 2016). It is ``log_prob_bound``, and there is no
    ``log_prob``. Samples are exact: e is dropped. ``Likelihood()`` trains on the bound, and
    ``FlowDistribution(augmented, event_shape)`` samples.

    Args:
        flow: A flow of samples with ``extra`` more entries at the end of their first axis, that of
            a vector or an image's channels. A multiscale one has no map in front, through which
            the noise would go too.
        extra: How many.
        samples: k, where nothing else is said.

    Raises:
        TypeError: if ``flow`` is no flow.
        ValueError: if a number is no whole one, or the flow has a map in front.

    Example:
        >>> from rnode_dyn import FlowDistribution, Likelihood, MLPField
        >>> augmented = Augmented(RegularizedFlow(MLPField(5)), extra=3)
        >>> Likelihood().loss(augmented, torch.zeros(4, 2)).figures["bits_per_dim_bound"].shape
        torch.Size([])
        >>> FlowDistribution(augmented, (2,)).sample((10,)).shape
        torch.Size([10, 2])
    """

    def __init__(
        self, flow: RegularizedFlow | MultiscaleFlow, extra: int, samples: int = 1
    ) -> None:
        super().__init__()
        if not isinstance(flow, RegularizedFlow | MultiscaleFlow):
            raise TypeError(
                f"flow is {flow!r}; write a RegularizedFlow or a MultiscaleFlow of the samples and "
                "the extra variables."
            )
        if isinstance(flow, MultiscaleFlow) and len(flow.preprocess.steps):
            raise ValueError(
                f"the flow begins with {flow.preprocess.steps[0]}, through which the noise would "
                "go too: leave preprocess out, and transform the data beforehand."
            )
        self.flow = flow
        self.extra = whole("Augmented", "extra", extra)
        self.samples = whole("Augmented", "samples", samples)

    @property
    def blocks(self) -> list[RegularizedFlow]:
        """The continuous blocks, first to last."""
        return self.flow.blocks if isinstance(self.flow, MultiscaleFlow) else [self.flow]

    @property
    def takes_condition(self) -> bool:
        """Whether the flow takes a condition."""
        return takes_condition(self.flow)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, samples: int | None = None
    ) -> Bound:
        """Solve for every sample with noise beside it.

        Args:
            x: Data, ``(batch, *event)``.
            condition: Of a conditional flow, a row a sample.
            samples: k; left out, as the flow was built.

        Raises:
            ValueError: if k is above 1 and the log-determinant an estimate, whose noise would lift
                the mean of exponentials above the bound; or the shapes do not fit.
        """
        count = self.samples if samples is None else whole("Augmented", "samples", samples)
        self._refuse_estimates(count)
        joint, noise = self.joined(x, count)
        flow = as_multiscale(self.flow, joint.shape[2:])
        if isinstance(condition, Tensor):
            check_rows(condition, x)
        # What is no tensor is the field's to refuse.
        rows = torch.cat([condition] * count) if isinstance(condition, Tensor) else condition
        result, weighted = flow.forward_weighted(joint.flatten(0, 1), rows)
        known = standard_normal_log_prob(result.z) + result.log_det
        ratios = (known - standard_normal_log_prob(noise.flatten(0, 1))).view(count, -1)
        return Bound(
            ratios.logsumexp(0) - math.log(count),
            {name: value.view(count, -1).mean(0) for name, value in result.penalties.items()},
            weighted.view(count, -1).mean(0),
        )

    def log_prob_bound(
        self, x: Tensor, samples: int | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Return an unbiased estimate of the lower bound on log p(x), ``(batch,)``, in nats."""
        return self(x, condition, samples).log_prob_bound

    def joined(self, x: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Put noise beside data.

        Returns:
            Both together, ``(count, batch, *event)`` with the extra variables, and the noise.
        """
        check_kind(x, self.parameters())
        check_batch(x, self.parameters())
        self._check_shape(tuple(x.shape[1:]))

        def make(like: Tensor) -> Tensor:
            shape = (count, len(like), self.extra, *like.shape[2:])
            return torch.randn(shape, dtype=like.dtype, device=like.device)

        noise = drawn(make, x, axis=1)
        return torch.cat([x.expand(count, *x.shape), noise], dim=2), noise

    def generate(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Carry latent variables to data; the extra variables are dropped."""
        refuse_extra([self.flow], condition)
        return self.flow.generate(z, condition)[:, : -self.extra]

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a latent sample, given that of a data sample."""
        self._check_shape(tuple(shape))
        return tuple(self.flow.forward_shape(self._joint_shape(tuple(shape))))

    def inverse(self, *_: object) -> NoReturn:
        """Refuse: there is no way back to x and its density.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "an augmented flow knows no density of what it draws, only a bound for given data: "
            "write generate(z) for samples, log_prob_bound(x) for the bound."
        )

    def _joint_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] + self.extra, *shape[1:])

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ValueError("a sample is a single number: give it an axis, shape (1,).")
        joint, knows = self._joint_shape(shape), self.flow
        taken = joint
        if isinstance(knows, MultiscaleFlow):
            taken = knows.event_shape
        elif isinstance(knows.field, MLPField):
            taken = knows.field.dim
        if taken != joint:
            raise ValueError(
                f"samples of shape {shape} and {self.extra} extra make {joint}, and the flow takes "
                f"{taken}: build its field for {joint}, or change extra."
            )

    def _refuse_estimates(self, count: int) -> None:
        for block in self.blocks:
            if count > 1 and (estimate := block.estimated_by) is not None:
                raise ValueError(
                    f"samples is {count}, and the log-determinant is estimated by {estimate}, "
                    "whose noise would lift the mean of exponentials above the bound: write "
                    "samples=1, or ExactDivergence() as divergence, or as eval_divergence and "
                    ".eval(), and no random nodes."
                )

    def extra_repr(self) -> str:
        """Say what of the density is known."""
        return f"extra={self.extra}, samples={self.samples}: a lower bound on log p(x)"


def refuse_bound(model: nn.Module, who: str) -> None:
    """Refuse an augmented flow where exact densities are told.

    Raises:
        TypeError: naming who told them.
    """
    if isinstance(model, Augmented):
        raise TypeError(
            f"{who} tells exact densities, and an augmented flow has a bound alone: train it by "
            "Likelihood().loss(…), and measure it by log_prob_bound(x, samples=…)."
        )
