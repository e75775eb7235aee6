"""Random layers whose noise stays the same until it is drawn anew."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.conditioned import takes_condition
from rnode_dyn.numerics.seeding import seeded


class FrozenNoise(nn.Module):
    """A field whose random numbers (dropout, noise) are the same at every evaluation.

    An ODE has one right-hand side. A field that draws anew at every evaluation has none, and only
    a sensitivity that goes back through the very evaluations can differentiate it. With the noise
    frozen, every sensitivity and adaptive stepping are right. Draw it anew once a training step,
    before the solve and not between it and its gradient.

    Args:
        field: The field; torch's random numbers are what it may draw.
        seed: Of the first noise; left out, it is drawn from torch's own.

    Example:
        >>> import torch
        >>> field = FrozenNoise(lambda t, x: torch.nn.functional.dropout(x), seed=0)
        >>> t, x = torch.tensor(0.0), torch.ones(2, 8)
        >>> before = field(t, x)
        >>> torch.equal(before, field(t, x))
        True
        >>> field.redraw()
        >>> torch.equal(before, field(t, x))
        False
    """

    seed: Tensor

    def __init__(self, field: Callable[..., Tensor], seed: int | None = None) -> None:
        super().__init__()
        self.field = as_field(field)
        self.register_buffer("seed", torch.tensor(0 if seed is None else seed))
        if seed is None:
            self.redraw()

    def redraw(self) -> None:
        """Draw other noise from now on."""
        self.seed.fill_(int(torch.randint(2**62, ())))

    @property
    def takes_condition(self) -> bool:
        """Whether the field does."""
        return takes_condition(self.field)

    def forward(self, t: Tensor, x: Tensor, condition: Any = None, args: Any = None) -> Tensor:
        """Evaluate the field."""
        named = {} if condition is None else {"condition": condition}
        with seeded(x.device, int(self.seed)):
            return self.field(t, x, **named)

    def of_samples(self, samples: Tensor) -> NoReturn:
        """Refuse: the noise belongs to the places of a whole batch.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "FrozenNoise draws its noise for the places of a whole batch, and per_sample "
            "evaluates some samples without the others: call field.eval(), or drop per_sample"
        )
