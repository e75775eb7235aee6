"""Straight paths from data to noise through a multiscale flow, and what each block sees of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.transforms import Squeeze


@dataclass(frozen=True)
class Leg:
    """The stretch of the paths within one continuous block.

    Attributes:
        number: Which block, from 0; it spans the global times from ``number`` to ``number + 1``.
        flow: The block.
        coordinates: Flat indices of the data coordinates that it sees, in its own layout.
        exits: Global times at which those coordinates become noise, in the same layout.
        pace: How much faster than on average the paths begin; above 1 they arrive at rest.
    """

    number: int
    flow: RegularizedFlow
    coordinates: Tensor
    exits: Tensor
    pace: float = 1.0

    def at(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the paths are at the block's own times, and how fast they move.

        Args:
            data: Starts of the paths, one vector each, ``(batch, dimension)``.
            noise: Their ends, likewise.
            t: Times within the block, from 0 to its end time, ``(batch,)``.

        Returns:
            Positions x and velocities dx/dt, ``(batch, *event)`` in the block's layout.
        """
        a, z = (vectors[:, self.coordinates.flatten()] for vectors in (data, noise))
        left, speed = self.progress(t)
        left, speed = left.flatten(1).to(data.dtype), speed.flatten(1).to(data.dtype)
        x, velocity = torch.lerp(z, a, left), speed * (z - a)
        shape = (-1, *self.coordinates.shape)
        return x.reshape(shape), velocity.reshape(shape)

    def progress(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is left of each path, from 1 at the data to 0, and how fast that shrinks.

        Args:
            t: Times within the block, ``(batch,)``.

        Returns:
            Both ``(batch, *event)`` in the block's layout.
        """
        exits = self.exits.to(t.dtype)
        passed = (self.number + t / self.flow.end_time).reshape(-1, *[1] * exits.ndim)
        left = (1 - passed / exits).clamp(min=0)
        return left**self.pace, self.pace * left ** (self.pace - 1) / (exits * self.flow.end_time)


def exit_times(model: MultiscaleFlow) -> Tensor:
    """Return for every data coordinate after how many blocks it leaves, ``(dimension,)``.

    Example:
        >>> from rnode_dyn import ConvField, Scale
        >>> blocks = [RegularizedFlow(ConvField(channels, (4,))) for channels in (1, 2)]
        >>> model = MultiscaleFlow(
        ...     (1, 2, 2), [Scale(blocks[:1], squeeze=True, split=True), Scale(blocks[1:])]
        ... )
        >>> exit_times(model)
        tensor([2., 2., 1., 1.])
    """
    exits = torch.zeros(sum(torch.Size(shape).numel() for shape in model.latent_shapes))
    for number, station in enumerate(model.walk(), start=1):
        exits[station.coordinates.flatten()] = float(number)
    return exits


def legs(model: MultiscaleFlow, device: torch.device | None = None, pace: float = 1.0) -> list[Leg]:
    """Return the paths' legs, block by block.

    Args:
        model: The flow.
        device: Where the legs' tensors are; left out, on the CPU.
        pace: How fast the paths begin: what is left of a path is (1 − s/e)^pace.

    Raises:
        TypeError: if a step between the blocks computes, so that a straight line before it is
            none behind it.
    """
    for number, scale in enumerate(model.scale_list()):
        for step in scale.steps:
            if not isinstance(step, RegularizedFlow | Squeeze):
                raise TypeError(
                    f"scale {number} has a {type(step).__name__} between its blocks: a straight "
                    "path does not stay straight through it. Put it in front, preprocess=…, or "
                    "train with Likelihood()."
                )
    if any(isinstance(block.end, Tensor) for block in model.blocks):
        raise TypeError(
            "a block's end_time wants a gradient, and straight paths give it none: train it with "
            "Likelihood(), or write end_time=end_time.item()."
        )
    exits = exit_times(model).to(device)
    found = []
    for number, station in enumerate(model.walk()):
        coordinates = station.coordinates.to(device)
        found.append(Leg(number, station.flow, coordinates, exits[coordinates], pace))
    return found
