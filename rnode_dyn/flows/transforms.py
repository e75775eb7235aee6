"""Invertible maps without an ODE, each with its log-determinant."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.flows.conditions import handed, refuse_extra, takes_condition
from rnode_dyn.flows.result import FlowResult, unchanged


class Transform(nn.Module):
    """An invertible map; ``forward`` and ``inverse`` return where it goes and log |det|."""

    @abstractmethod
    def forward(self, x: Tensor) -> FlowResult:
        """Map ``x`` (batch, *event)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> FlowResult:
        """Map back; ``log_det`` is that of this direction."""

    def generate(self, z: Tensor) -> Tensor:
        """Map back without the log-determinant."""
        return self.inverse(z).z

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a mapped sample, given that of a sample."""
        return tuple(shape)


class LogitTransform(Transform):
    """y = logit(α + (1 − 2α) x): from the unit cube to space (Papamakarios et al., MAF, 2017).

    Args:
        alpha: α in (0, ½): keeps 0 and 1 away from infinity.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.5, 1.0]])
        >>> y, log_det, _ = LogitTransform(0.05)(x)
        >>> y
        tensor([[-2.9444,  0.0000,  2.9444]])
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(
                f"LogitTransform: alpha is {alpha!r}; write a number between 0 and 0.5, such as "
                "1e-5, or take Shift(-0.5) for no logit at all."
            )
        self.alpha = alpha

    def forward(self, x: Tensor) -> FlowResult:
        """Map the unit cube to space."""
        p = self.alpha + (1 - 2 * self.alpha) * x
        y = torch.log(p) - torch.log1p(-p)
        return FlowResult(y, self._log_det(y), {})

    def inverse(self, z: Tensor) -> FlowResult:
        """Map space to the cube, and a little beyond where ``z`` is far out."""
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return FlowResult(x, -self._log_det(z), {})

    def _log_det(self, y: Tensor) -> Tensor:
        """Log dy/dx = log(1 − 2α) − log p(1 − p), where p = sigmoid(y)."""
        slopes = math.log(1 - 2 * self.alpha) + F.softplus(-y) + F.softplus(y)
        return slopes.flatten(1).sum(1)

    def extra_repr(self) -> str:
        """Show α."""
        return f"alpha={self.alpha}"


class Shift(Transform):
    """y = x + offset: with −½, zero-mean images without a logit.

    Args:
        offset: What to add.
    """

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> FlowResult:
        """Add the offset."""
        return unchanged(x + self.offset)

    def inverse(self, z: Tensor) -> FlowResult:
        """Take the offset off."""
        return unchanged(z - self.offset)

    def extra_repr(self) -> str:
        """Show the offset."""
        return f"offset={self.offset}"


class Squeeze(Transform):
    """(C, H, W) → (4C, H/2, W/2): each 2×2 patch becomes channels (Dinh et al., RealNVP, 2017).

    Example:
        >>> import torch
        >>> Squeeze()(torch.zeros(1, 3, 8, 8)).z.shape
        torch.Size([1, 12, 4, 4])
    """

    def forward(self, x: Tensor) -> FlowResult:
        """Trade resolution for channels."""
        self.forward_shape(x.shape[1:])
        return unchanged(rearrange(x, "b c (h i) (w j) -> b (c i j) h w", i=2, j=2))

    def inverse(self, z: Tensor) -> FlowResult:
        """Trade channels for resolution."""
        return unchanged(rearrange(z, "b (c i j) h w -> b c (h i) (w j)", i=2, j=2))

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape after squeezing.

        Raises:
            ValueError: if the shape is not that of an image of even height and width.
        """
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise ValueError(
                f"a sample of shape {tuple(shape)} cannot be squeezed: that takes an image "
                "(channels, height, width) of even height and width."
            )
        return shape[0] * 4, shape[1] // 2, shape[2] // 2


class Compose(Transform):
    """Maps one after another: transforms and flows alike.

    Args:
        steps: The maps, first to last.

    Example:
        >>> import torch
        >>> chain = Compose([LogitTransform(0.05), Squeeze()])
        >>> z, log_det, _ = chain(torch.rand(2, 1, 4, 4))
        >>> z.shape, torch.allclose(chain.inverse(z).log_det, -log_det)
        (torch.Size([2, 4, 2, 2]), True)
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    @property
    def takes_condition(self) -> bool:
        """Whether one of the maps takes a condition."""
        return any(map(takes_condition, self.steps))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> FlowResult:
        """Apply the maps in order; those that take a condition are handed it."""
        refuse_extra(self.steps, condition)
        result = unchanged(x)
        for step in self.steps:
            result = result.then(step(result.z, **handed(step, condition)))
        return result

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> FlowResult:
        """Undo the maps, the last first."""
        refuse_extra(self.steps, condition)
        result = unchanged(z)
        for step in reversed(self.steps):
            result = result.then(step.inverse(result.z, **handed(step, condition)))  # type: ignore[operator]
        return result

    def generate(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Undo the maps without log-determinants."""
        refuse_extra(self.steps, condition)
        for step in reversed(self.steps):
            z = step.generate(z, **handed(step, condition))  # type: ignore[operator]
        return z

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape after all maps."""
        for step in self.steps:
            shape = step.forward_shape(shape)  # type: ignore[operator]
        return tuple(shape)
