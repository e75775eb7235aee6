"""A recipe's model on this machine, as its training computes it: device, precision, threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from rnode_dyn.costs.pieces import choose_pieces, differentiate_by
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.seeding import random_state_kept
from rnode_dyn.numerics.threads import torch_threads
from rnode_dyn.recipe.build import build_model, governed_blocks
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.loop.trainer import blaming_the_devices

_WEIGHTS = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
"""Precisions of recipes whose weights are not of 32 bits."""


@contextmanager
def as_trained(recipe: Recipe, event: Event) -> Iterator[tuple[MultiscaleFlow, Fabric]]:
    """Yield a recipe's model where it would train, and what it would compute in.

    It is not compiled, whatever ``train.compile`` says. Within this context torch uses the recipe's
    threads; random states are put back behind it.

    Args:
        recipe: The recipe; its data are not read.
        event: What one sample looks like.

    Yields:
        The model in training mode, and the device with its precision: ``fabric.autocast()`` is the
        context of a loss.

    Raises:
        RecipeError: if this machine has not the device that the recipe asks for.
    """
    train = recipe.train
    with blaming_the_devices(recipe):
        fabric = Fabric(accelerator=train.accelerator, devices=1, precision=train.precision)
    dtype = _WEIGHTS.get(train.precision, torch.float32)
    with torch_threads(train.given_threads), random_state_kept(fabric.device):
        model = build_model(recipe, event).to(fabric.device, dtype).train()
        lay_out(model, fabric.device)
        yield model, fabric


def chooses_threads(recipe: Recipe, device: torch.device) -> bool:
    """Whether a training on this device chooses how many threads it takes."""
    return recipe.train.threads == "auto" and device.type == "cpu"


def piece_size(recipe: Recipe, model: MultiscaleFlow, batch_size: int) -> int:
    """Return how many samples the training solves at once, and differentiate them as it does."""
    given = recipe.train.micro_batch
    if given != "auto":
        return batch_size if given is None else min(given, batch_size)
    device = first_weight(model).device
    pieces = choose_pieces(model, batch_size, device, governed_blocks(recipe, model))
    differentiate_by(model, pieces.way)
    return pieces.size
