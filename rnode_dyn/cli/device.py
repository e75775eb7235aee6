"""Where a command that solves a trained flow computes: on a GPU, where there is one."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from rnode_dyn.flows.multiscale import MultiscaleFlow
    from rnode_dyn.recipe.schema import Recipe

DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1 or mps; absent: a GPU where there is one and the recipe has none "
        "against it.",
    ),
]


def move(model: "MultiscaleFlow", recipe: "Recipe", asked: str | None) -> str:
    """Move a flow to where it is to be solved, and return the name of that.

    Args:
        model: The flow.
        recipe: Its recipe: on which accelerator it was trained.
        asked: ``--device``.

    Raises:
        BadParameter: if there is no such device.
    """
    import torch

    from rnode_dyn.bench.measure import device_for
    from rnode_dyn.flows.layout import lay_out

    device = device_for(recipe.train.accelerator) if asked is None else _device(asked)
    try:
        model.to(device)
        torch.zeros(1, device=device).item()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise typer.BadParameter(
            f"--device is {asked}, and torch cannot compute there ({reason}): write cpu, or leave "
            "it out"
        ) from error
    lay_out(model, device)
    return str(device)


def _device(asked: str) -> "torch.device":
    import torch

    try:
        return torch.device(asked)
    except RuntimeError as error:
        raise typer.BadParameter(
            f"--device is {asked}, and torch knows no such: write cpu, cuda, cuda:1 or mps"
        ) from error
