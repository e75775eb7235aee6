"""What a batch scores, given where a flow took it."""

import torch
from torch import Tensor

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.result import FlowResult

# Too coarse for a sum over hundreds of dimensions.
_HALF = (torch.float16, torch.bfloat16)


def bits_of(result: FlowResult, event: Event) -> Tensor:
    """Bits per dimension of a batch, given where the flow took it, ``(batch,)``."""
    z, log_det = (part.float() if part.dtype in _HALF else part for part in result[:2])
    log_prob = standard_normal_log_prob(z) + log_det
    return bits_per_dim(log_prob, event.dims, event.levels)
