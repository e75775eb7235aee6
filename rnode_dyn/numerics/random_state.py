"""Which random state a computation draws from, for those who want to leave it as it was."""

import torch


def cuda_devices_of(device: torch.device) -> list[torch.device]:
    """Return the devices whose random state a computation on ``device`` draws from.

    Example:
        >>> cuda_devices_of(torch.device("cpu"))
        []
    """
    return [device] if device.type == "cuda" else []
