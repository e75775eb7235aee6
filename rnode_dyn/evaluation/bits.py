"""What a batch scores, given where a flow took it."""

from torch import Tensor

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.result import FlowResult


def bits_of(result: FlowResult, event: Event) -> Tensor:
    """Bits per dimension of a batch, given where the flow took it, ``(batch,)``."""
    log_prob = standard_normal_log_prob(result.z) + result.log_det
    return bits_per_dim(log_prob, event.dims, event.levels)
