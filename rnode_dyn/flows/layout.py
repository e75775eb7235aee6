"""How the weights lie in memory, which decides how fast convolutions are."""

import torch
from torch import nn


def lay_out(model: nn.Module, device: torch.device) -> None:
    """Lay a model's weights out as its device likes them; values and shapes stay.

    On a CPU convolutions are faster where the channels of a pixel lie together, but torch
    normalises groups of channels there many times slower. So fields without such norms have that
    layout on a CPU; all else keeps torch's own.

    Example:
        >>> model = nn.Conv2d(2, 3, 3)
        >>> lay_out(model, torch.device("cpu"))
        >>> model.weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    normalises = any(isinstance(module, nn.GroupNorm) for module in model.modules())
    together = device.type == "cpu" and not normalises
    layout = torch.channels_last if together else torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
