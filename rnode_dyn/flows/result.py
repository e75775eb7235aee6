"""What a flow or a transform returns."""

from typing import NamedTuple

import torch
from torch import Tensor


class FlowResult(NamedTuple):
    """The image of a batch under a map.

    Attributes:
        z: Where the map took it.
        log_det: log |det| of the map's Jacobian, ``(batch,)``; a forward map's carries over to
            log p(x) = log p(z) + log_det.
        penalties: The regularizers' integrals by name, unweighted, each ``(batch,)``.
    """

    z: Tensor
    log_det: Tensor
    penalties: dict[str, Tensor]

    def then(self, step: "FlowResult") -> "FlowResult":
        """Chain with the result of the map that came after: sums where it says where z is."""
        penalties = dict(self.penalties)
        for name, value in step.penalties.items():
            penalties[name] = penalties[name] + value if name in penalties else value
        return FlowResult(step.z, self.log_det + step.log_det, penalties)


def unchanged(x: Tensor) -> FlowResult:
    """Return the result of the identity."""
    return FlowResult(x, torch.zeros(x.shape[0], dtype=x.dtype, device=x.device), {})
