"""How likely a trained flow finds samples: log p of each, and how well that is known."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Event
from rnode_dyn.fields.condition import check_rows
from rnode_dyn.flows.conditions import as_precise, handed, refuse_extra
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.standardize import standardizing
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.seeding import seeded


class Score(NamedTuple):
    """What a flow scores samples, each of shape ``(n,)`` and float64.

    Attributes:
        log_prob: Log-density in nats: of a continuous sample; of pixels that of
            u = (pixel + noise)/levels in the unit cube, a lower bound of the pixels' own but for
            dims · log(levels): the variational one where a flow has learned the noise.
        bits_per_dim: The same in bits per dimension of what was given, pixels or numbers.
        stderr: Standard error of ``log_prob`` over the probes: 0 where nothing is drawn, NaN where
            there was a single probe.
    """

    log_prob: Tensor
    bits_per_dim: Tensor
    stderr: Tensor


@torch.no_grad()
def score_samples(
    model: MultiscaleFlow,
    event: Event,
    x: Tensor | np.ndarray,
    *,
    probes: int = 4,
    batch_size: int = 200,
    seed: int = 0,
    condition: Tensor | None = None,
    progress: bool = False,
) -> Score:
    """Score samples in batches.

    Args:
        model: The flow, in evaluation mode.
        event: What one sample looks like.
        x: Samples ``(n, *event.shape)``: floats, or whole-numbered pixels where there are levels.
        probes: Solves a sample, each with noise of its own, which are averaged; where neither the
            log-determinant nor the pixels draw noise one is enough, and taken.
        batch_size: Samples that are solved for at once.
        seed: Seed of the noise.
        condition: Of a conditional flow, a row a sample.
        progress: Whether to show a bar, where a terminal is looking.

    Raises:
        TypeError: if the samples, or their conditions, are of another kind of number.
        ValueError: if they have another shape, or a number that cannot be.
    """
    samples, count = checked(model, event, x), whole("score", "probes", probes)
    whole("score", "batch_size", batch_size)
    refuse_extra([model], condition)
    condition = None if condition is None else _conditions(model, condition, samples)
    count = count if _draws(model, event) else 1
    device = first_weight(model).device
    found: list[Tensor] = []
    with seeded(device, seed):
        for rows in _shown(range(0, len(samples), batch_size), progress):
            part = slice(rows, rows + batch_size)
            given = None if condition is None else condition[part].to(device)
            solves = [_log_prob(model, event, samples[part], given) for _ in range(count)]
            found.append(torch.stack(solves))
    return _score(torch.cat(found, dim=1), event, exact=not _draws(model, event))


def _score(log_probs: Tensor, event: Event, exact: bool) -> Score:
    mean = log_probs.mean(0)
    if exact:
        stderr = torch.zeros_like(mean)
    elif len(log_probs) == 1:
        stderr = torch.full_like(mean, math.nan)
    else:
        stderr = log_probs.std(0) / math.sqrt(len(log_probs))
    return Score(mean, bits_per_dim(mean, event.dims, event.levels), stderr)


def _log_prob(model: MultiscaleFlow, event: Event, x: Tensor, condition: Tensor | None) -> Tensor:
    weights = first_weight(model)
    x = x.to(weights.device)
    if event.levels is not None:
        x = UniformDequantization(event.levels)(x).to(weights.dtype)
    z, log_det, _ = model(x, **handed(model, condition))
    return (standard_normal_log_prob(z) + log_det).double().cpu()


def _draws(model: MultiscaleFlow, event: Event) -> bool:
    """Whether a score has noise in it."""
    noisy = (block.estimated_by is not None for block in model.blocks)
    return event.levels is not None or any(noisy)


def _shown(starts: Iterable[int], progress: bool) -> Iterator[int]:
    if not progress:
        yield from starts
        return
    console = Console(stderr=True)
    yield from track(
        starts, "scoring", console=console, transient=True, disable=not console.is_terminal
    )


def checked(model: MultiscaleFlow, event: Event, x: object) -> Tensor:
    """Return samples as the flow scores them, or say what is wrong with them.

    Raises:
        TypeError: if they are of another kind of number.
        ValueError: if they have another shape, or a number that cannot be.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"x is a {type(x).__name__}; write an array or a tensor of samples.")
    samples = _as_tensor(x) if isinstance(x, np.ndarray) else x
    shape, wanted = tuple(samples.shape), ", ".join(map(str, event.shape))
    if shape[1:] != event.shape or len(shape) != 1 + len(event.shape):
        raise ValueError(f"samples have shape {shape}; this flow scores (n, {wanted}).")
    if not len(samples):
        raise ValueError("there is no sample to score: the array is empty.")
    return _continuous(model, samples) if event.levels is None else _pixels(samples, event.levels)


def _as_tensor(x: np.ndarray) -> Tensor:
    """Copy an array whose bytes torch cannot share: in another machine's order, or read only."""
    native = np.require(x, x.dtype.newbyteorder("="), ["C", "W"])
    return torch.from_numpy(native)


def _conditions(model: MultiscaleFlow, condition: Tensor, samples: Tensor) -> Tensor:
    """Return conditions in the precision that the flow takes beside these samples."""
    check_rows(condition, samples)
    if not condition.is_floating_point():
        return condition
    bad = ~condition.isfinite().reshape(len(condition), -1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"{int(bad.sum())} conditions have numbers that are not finite, the first is that of "
            f"sample {int(bad.nonzero()[0])} (counted from 0)."
        )
    return as_precise(model, condition)


def _continuous(model: MultiscaleFlow, samples: Tensor) -> Tensor:
    if not samples.is_floating_point():
        raise TypeError(
            f"samples are {samples.dtype}; this flow scores floating numbers: whole numbers have "
            "no density."
        )
    bad = ~samples.flatten(1).isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(
            f"{int(bad.sum())} samples have numbers that are not finite, the first is sample "
            f"{int(bad.nonzero()[0])} (counted from 0)."
        )
    weights = first_weight(model)
    return samples.double() if standardizing(model) else samples.to(weights.dtype)


def _pixels(samples: Tensor, levels: int) -> Tensor:
    if samples.is_floating_point() or samples.is_complex() or samples.dtype is torch.bool:
        raise TypeError(
            f"samples are {samples.dtype}; this flow scores whole-numbered pixels from 0 to "
            f"{levels - 1}, such as torch.uint8."
        )
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high >= levels:
        raise ValueError(
            f"samples have pixels from {low} to {high}; this flow scores pixels from 0 to "
            f"{levels - 1}."
        )
    return samples
