"""The same computation on the CPU and on the stand-in: the same numbers, each on its own device."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from tests.accelerator.tensor import NAME

CPU = torch.device("cpu")
Figures = Mapping[str, Any]


def agree(
    make: Callable[[], tuple],
    use: Callable[..., Figures],
    rtol: float = 1e-11,
    on_the_host: bool = False,
) -> None:
    """Assert that a computation gives the same on both devices, and draws where it computes.

    Args:
        make: Returns what it needs, modules and tensors, made on the CPU.
        use: Computes figures by name, given those on the device.
        rtol: How far the figures may differ; summing in another order is not forbidden.
        on_the_host: Whether the figures belong on the CPU all the same.
    """
    expected, found = run_on(CPU, make, use), run_on(torch.device(NAME, 0), make, use)
    assert expected.keys() == found.keys(), f"{list(found)} instead of {list(expected)}"
    for name, word in _words(found).items():
        assert word == expected[name], f"{name} is {word!r} instead of {expected[name]!r}"
    for name, figure in found.items():
        if isinstance(figure, Tensor):
            wanted = "cpu" if on_the_host else NAME
            assert figure.device.type == wanted, f"{name} is on {figure.device}"
    torch.testing.assert_close(_numbers(found), _numbers(expected), rtol=rtol, atol=rtol)


def run_on(device: torch.device, make: Callable[[], tuple], use: Callable[..., Figures]) -> Figures:
    """Compute on a device; the random numbers must be its own, and the other's stay unused."""
    torch.manual_seed(0)
    parts = [part.to(device) for part in make()]
    torch.manual_seed(1)
    unused = _state_beside(device)
    figures = use(*parts)
    assert torch.equal(_state_beside(device), unused), "drawn on the wrong device"
    return figures


def gradients(parts: Iterable[Tensor]) -> dict[str, Tensor]:
    """The gradients of tensors by their number, those that have one."""
    found = {f"gradient {k}": part.grad for k, part in enumerate(parts)}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def _state_beside(device: torch.device) -> Tensor:
    if device.type == NAME:
        return torch.get_rng_state()
    return torch.get_device_module(NAME).get_rng_state()


def _words(figures: Figures) -> dict[str, str]:
    return {name: figure for name, figure in figures.items() if isinstance(figure, str)}


def _numbers(figures: Figures) -> dict[str, Any]:
    return {
        name: figure.detach().cpu() if isinstance(figure, Tensor) else figure
        for name, figure in figures.items()
        if not isinstance(figure, str)
    }
