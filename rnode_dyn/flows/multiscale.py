"""The multiscale architecture: flows, squeezes, and halves of the channels that leave early."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnode_dyn._notebook import shown_by
from rnode_dyn.flows.conditions import handed, refuse_extra, takes_condition
from rnode_dyn.flows.given import check_batch
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.result import FlowResult, unchanged
from rnode_dyn.flows.standardize import standardizing
from rnode_dyn.flows.transforms import Compose, Squeeze, Transform
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.checks import deferred_checks
from rnode_dyn.numerics.numbers import truth


class Scale(Compose):
    """One scale: continuous blocks, perhaps a squeeze and more blocks, perhaps a split.

    Args:
        blocks: The flows before the squeeze.
        blocks_after: The flows after it; giving any asks for the squeeze.
        squeeze: Whether to squeeze.
        split: Whether the second half of the channels leaves after the last block.
    """

    def __init__(
        self,
        blocks: Sequence[RegularizedFlow],
        blocks_after: Sequence[RegularizedFlow] = (),
        squeeze: bool = False,
        split: bool = False,
    ) -> None:
        squeeze = truth("Scale", "squeeze", squeeze)
        if blocks_after and not squeeze:
            raise ValueError("blocks_after come after a squeeze: write squeeze=True as well.")
        super().__init__([*blocks, *([Squeeze()] if squeeze else []), *blocks_after])
        self.split = truth("Scale", "split", split)

    @property
    def blocks(self) -> list[RegularizedFlow]:
        """The scale's continuous blocks, in order."""
        return [step for step in self.steps if isinstance(step, RegularizedFlow)]

    def extra_repr(self) -> str:
        """Show the split."""
        return f"split={self.split}"


@dataclass(frozen=True)
class Station:
    """A continuous block on the way through a multiscale flow.

    Attributes:
        scale: Number of its scale, from 0.
        flow: The block.
        coordinates: Which data coordinates it sees, and where: flat indices into a data sample,
            in the block's own layout.
    """

    scale: int
    flow: RegularizedFlow
    coordinates: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample in the block."""
        return tuple(self.coordinates.shape)


class MultiscaleFlow(Transform):
    """A flow through several scales (Dinh et al., RealNVP, 2017, section 3.6).

    The latent sample is one vector: what leaves at each split, in order, and at last what goes all
    the way. A single scale without squeeze or split is an ordinary flow, of vectors too.

    Args:
        event_shape: Shape of a data sample.
        scales: The scales, first to last; the last does not split.
        preprocess: A map in front of the first scale, such as ``LogitTransform(1e-5)``.
        preprocess_condition: A map that conditions go through before the blocks see them, such as
            a ``Standardize``; its log-determinant is nobody's.

    Raises:
        ValueError: where a scale does not fit, naming it and the shapes.

    Example:
        >>> import torch
        >>> from rnode_dyn import ConvField, RK4, FixedStep, Solver
        >>> solver = Solver(RK4(), FixedStep(0.5))
        >>> flow = MultiscaleFlow((1, 8, 8), [
        ...     Scale([RegularizedFlow(ConvField(1, (8,)), solver)], squeeze=True, split=True),
        ...     Scale([RegularizedFlow(ConvField(2, (8,)), solver)]),
        ... ])
        >>> flow.latent_shapes
        [(2, 4, 4), (2, 4, 4)]
        >>> flow(torch.rand(3, 1, 8, 8)).z.shape
        torch.Size([3, 64])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        scales: Sequence[Scale],
        preprocess: Transform | None = None,
        preprocess_condition: Transform | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.preprocess_condition = preprocess_condition
        self.preprocess = Compose([preprocess] if preprocess is not None else [])
        self.scales = nn.ModuleList(scales)
        self.latent_shapes = self._trace_shapes()

    def _trace_shapes(self) -> list[tuple[int, ...]]:
        if not len(self.scales):
            raise ValueError("a multiscale flow needs at least one scale.")
        shape, leaving = self.preprocess.forward_shape(self.event_shape), []
        if shape != self.event_shape:
            raise ValueError(
                f"preprocess turns samples of shape {self.event_shape} into {shape}: it must keep "
                "the shape; squeeze within a scale, Scale(…, squeeze=True)."
            )
        for number, scale in enumerate(self.scale_list()):
            try:
                shape = scale.forward_shape(shape)
            except ValueError as error:
                raise ValueError(f"scale {number}: {error}") from None
            if scale.split:
                shape = self._halve(number, shape)
                leaving.append(shape)
        return [*leaving, shape]

    def _halve(self, number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        if number == len(self.scales) - 1:
            raise ValueError(
                f"scale {number} is the last and cannot split: nothing would see what stays."
            )
        if shape[0] % 2:
            raise ValueError(
                f"scale {number} splits a sample of shape {shape}, whose first axis cannot be "
                "halved: squeeze before the split."
            )
        return shape[0] // 2, *shape[1:]

    _repr_html_ = shown_by("multiscale_html")

    def scale_list(self) -> list[Scale]:
        """The scales, first to last."""
        return list(self.scales)  # type: ignore[arg-type]

    @property
    def blocks(self) -> list[RegularizedFlow]:
        """The continuous blocks, first to last."""
        return [block for scale in self.scale_list() for block in scale.blocks]

    @property
    def takes_condition(self) -> bool:
        """Whether one of the blocks takes a condition."""
        return any(map(takes_condition, self.scales))

    def enter_condition(self, condition: Tensor | None) -> Tensor | None:
        """Take conditions as far as the blocks: preprocessed, where they are given.

        Raises:
            ValueError: if they are, and no block takes any.
        """
        refuse_extra(self.scales, condition)
        if condition is None or self.preprocess_condition is None:
            return condition
        return self.preprocess_condition(condition).z

    def forward(self, x: Tensor, condition: Tensor | None = None) -> FlowResult:
        """Carry data (batch, *event_shape) to the latent vector (batch, dimension)."""
        return self.forward_weighted(x, condition)[0]

    def forward_weighted(
        self, x: Tensor, condition: Tensor | None = None
    ) -> tuple[FlowResult, Tensor]:
        """Carry data to the latent vector, and weigh each block's penalties by its own weights.

        Returns:
            The result, and Σ weight · penalty over the blocks, ``(batch,)``: zeros where no block
            weighs any.
        """
        condition = self.enter_condition(condition)
        with deferred_checks():
            return self._forward_weighted(x, condition)

    def _forward_weighted(self, x: Tensor, condition: Tensor | None) -> tuple[FlowResult, Tensor]:
        result, leaving = self.enter(x), []
        weighted = torch.zeros_like(result.log_det)
        for scale in self.scale_list():
            for step in scale.steps:
                taken = step(result.z, **handed(step, condition))
                result = result.then(taken)
                if isinstance(step, RegularizedFlow):
                    weighted = weighted + step.weigh(taken.penalties)
            if scale.split:
                stays, leaves = result.z.chunk(2, dim=1)
                leaving.append(leaves)
                result = result._replace(z=stays)
        z = torch.cat([part.flatten(1) for part in [*leaving, result.z]], dim=1)
        return result._replace(z=z), weighted

    def enter(self, x: Tensor) -> FlowResult:
        """Take data as far as the first block: preprocessed, and in the weights' precision.

        Weights of 64 bits take data in 64 bits. Those of half precision take a state of half
        precision, but data near the ends of the logit must not be rounded before it.
        """
        x = self._widened(x)
        weights = first_weight(self).dtype
        half = weights in (torch.float16, torch.bfloat16)
        # What is standardised may need 64 bits until it is.
        any_precision = half or bool(standardizing(self.preprocess))
        check_batch(x, () if any_precision else self.parameters(), self.event_shape)
        result = self.preprocess(x)
        return result._replace(z=result.z.to(weights)) if half else result

    def _widened(self, x: Tensor) -> Tensor:
        """Give weights of 64 bits numbers of 64 bits, which takes nothing from them."""
        double = first_weight(self).dtype == torch.float64
        return x.double() if double and isinstance(x, Tensor) and x.is_floating_point() else x

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> FlowResult:
        """Carry latent vectors (batch, dimension) back to data."""
        condition = self.enter_condition(condition)
        *leaving, last = self.split_latents(z)
        result = unchanged(last)
        with deferred_checks():
            for scale in reversed(self.scale_list()):
                if scale.split:
                    result = result._replace(z=torch.cat([result.z, leaving.pop()], dim=1))
                result = result.then(scale.inverse(result.z, **handed(scale, condition)))
        return result.then(self.preprocess.inverse(result.z))

    def generate(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Carry latent vectors back to data without the density, which costs less."""
        condition = self.enter_condition(condition)
        *leaving, x = self.split_latents(z)
        with deferred_checks():
            for scale in reversed(self.scale_list()):
                if scale.split:
                    x = torch.cat([x, leaving.pop()], dim=1)
                x = scale.generate(x, **handed(scale, condition))
        return self.preprocess.generate(x)

    def split_latents(self, z: Tensor) -> list[Tensor]:
        """Cut latent vectors into the parts of :attr:`latent_shapes`."""
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        z = self._widened(z)
        check_batch(z, self.parameters())
        if z.dim() != 2 or z.shape[1] != sum(sizes):
            raise ValueError(
                f"latent vectors have shape {tuple(z.shape)}; this flow takes (batch, "
                f"{sum(sizes)})."
            )
        parts = z.split(sizes, dim=1)
        return [
            part.reshape(-1, *shape) for part, shape in zip(parts, self.latent_shapes, strict=True)
        ]

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a latent sample: one vector."""
        if tuple(shape) != self.event_shape:
            raise ValueError(f"this flow takes samples of shape {self.event_shape}, not {shape}.")
        return (math.prod(shape),)

    def walk(self) -> Iterator[Station]:
        """Yield the continuous blocks in order, with the coordinates that each sees.

        Squeezes and splits rename and part coordinates without computing, so that an array of
        indices sent along tells which value is where.
        """
        indices = torch.arange(math.prod(self.event_shape)).reshape(1, *self.event_shape)
        for number, scale in enumerate(self.scale_list()):
            for step in scale.steps:
                if isinstance(step, RegularizedFlow):
                    yield Station(number, step, indices[0])
                else:
                    indices = step(indices).z
            if scale.split:
                indices = indices.chunk(2, dim=1)[0]


def as_multiscale(flow: nn.Module, event_shape: Sequence[int]) -> MultiscaleFlow:
    """Return a flow as a multiscale one, a single block as one scale of one block.

    Args:
        flow: The flow; it is shared, not copied.
        event_shape: Shape of a data sample.

    Raises:
        TypeError: if it is neither kind of flow.

    Example:
        >>> from rnode_dyn import MLPField
        >>> as_multiscale(RegularizedFlow(MLPField(2)), (2,)).event_shape
        (2,)
    """
    if isinstance(flow, MultiscaleFlow):
        return flow
    if not isinstance(flow, RegularizedFlow):
        raise TypeError(
            f"flow is a {type(flow).__name__}; write a RegularizedFlow or a MultiscaleFlow."
        )
    return MultiscaleFlow(event_shape, [Scale([flow])])
