"""A conditional flow whose samples are more of their class than the data are."""

import math
from copy import deepcopy
from itertools import chain
from typing import NoReturn

from torch import Tensor

from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.guided import GuidedField
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.numbers import as_number


class GuidedFlow(MultiscaleFlow):
    """A flow for samples alone, guided by their class (Ho & Salimans 2022).

    Every field goes beyond what the class makes of it, see
    :class:`~rnode_dyn.fields.guided.GuidedField`. Samples then are of a density that nobody trained
    for: it is neither p(x | c) nor a power of it, so that log-densities are refused.

    Args:
        flow: A flow conditional on class labels, whose fields were trained with ``label_dropout``.
            Its weights are shared, not copied.
        scale: 1 changes nothing, 0 forgets the class, and 2 is usual for more typical samples of
            less variety.

    Raises:
        TypeError: if the flow is no :class:`~rnode_dyn.MultiscaleFlow`.
        ValueError: if a field does not know of samples without a class, or the scale is no number.

    Example:
        >>> import torch
        >>> from rnode_dyn import FlowDistribution, MLPField, RegularizedFlow, Scale
        >>> field = MLPField(2, classes=3, label_dropout=0.1)
        >>> flow = MultiscaleFlow((2,), [Scale([RegularizedFlow(field)])])
        >>> guided = FlowDistribution(GuidedFlow(flow, 2.0), (2,))
        >>> guided.given(torch.tensor([0, 0, 1, 2])).sample().shape
        torch.Size([4, 2])
    """

    def __init__(self, flow: MultiscaleFlow, scale: float) -> None:
        if not isinstance(flow, MultiscaleFlow):
            raise TypeError(
                f"GuidedFlow: flow is a {type(flow).__name__}; write a MultiscaleFlow, which one "
                "block is as MultiscaleFlow(event_shape, [Scale([block])])."
            )
        number = as_number(scale)
        if number is None or not 0 <= number < math.inf:
            raise ValueError(f"GuidedFlow: scale is {scale!r}; write 0 or more, such as 2.0.")
        shared = {id(tensor): tensor for tensor in chain(flow.parameters(), flow.buffers())}
        scales = deepcopy(flow.scale_list(), shared)
        for block in (block for one in scales for block in one.blocks):
            block.defunc.vf = as_field(GuidedField(block.field, number))
        super().__init__(flow.event_shape, scales, flow.preprocess, flow.preprocess_condition)
        self.scale = number
        self.train(flow.training)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> NoReturn:
        """Refuse: there is no log-density."""
        self._refuse()

    def forward_weighted(self, x: Tensor, condition: Tensor | None = None) -> NoReturn:
        """Refuse, likewise."""
        self._refuse()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> NoReturn:
        """Refuse, likewise; :meth:`generate` draws."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"a flow guided by {self.scale:g} has no log-density that anybody trained for: score "
            "with the flow itself, and draw with generate() or FlowDistribution(…).sample()."
        )

    def extra_repr(self) -> str:
        """Show the scale."""
        return f"scale={self.scale:g}"
