"""Measuring a trained flow on held-out data: likelihood by name, cost, and penalties."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.training.objective import bits_of


@dataclass(frozen=True)
class Evaluation:
    """What a flow scores on a set of samples.

    Attributes:
        samples: How many there were.
        bits_per_dim: Mean bits per dimension; of dequantized pixels where the data have levels.
        bits_per_dim_stderr: Its standard error over the samples; ``None`` for a single one.
        bits_per_dim_bin_centre: The same figure at the centres of the pixels' bins, which the
            authors' validation printed; ``None`` for continuous data. It is no likelihood of the
            pixels and compares with no dequantized figure.
        kinetic_energy: Mean penalty, summed over blocks; ``None`` where no block integrates it.
        jacobian_frobenius: Likewise.
        nfe_forward: Evaluations of the field in one forward pass, summed over blocks.
        reconstruction_error: Largest |inverse(forward(u)) − u| over the first batch.
        blocks: What the forward pass of the last batch cost in each block.
    """

    samples: int
    bits_per_dim: float
    bits_per_dim_stderr: float | None
    bits_per_dim_bin_centre: float | None
    kinetic_energy: float | None
    jacobian_frobenius: float | None
    nfe_forward: float
    reconstruction_error: float
    blocks: list[SolveStats]

    def as_dict(self) -> dict:
        """Return the figures as plain values."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: MultiscaleFlow, batches: Iterable[Tensor], event: Event, seed: int = 0
) -> Evaluation:
    """Score a flow with its evaluation solver and divergence.

    Args:
        model: The flow; it is put in evaluation mode.
        batches: Batches of integer pixels or of continuous samples.
        event: What one sample looks like.
        seed: Seed of the dequantization and of the divergence's noise.

    Raises:
        ValueError: if there is no sample.
    """
    model.eval()
    tally = _Tally()
    device = next(model.parameters(), torch.empty(0)).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches:
            _score(model, batch.to(device), event, tally)
    if not tally.bits:
        raise ValueError("there is no sample to evaluate: the split is empty.")
    return tally.evaluation()


def _score(model: MultiscaleFlow, batch: Tensor, event: Event, tally: "_Tally") -> None:
    u = batch if event.levels is None else UniformDequantization(event.levels)(batch)
    result = model(u)
    tally.add(bits_of(result, event), result.penalties)
    tally.blocks = [block.stats for block in model.blocks]
    tally.evaluations.append(sum(stats.nfe for stats in tally.blocks))
    if event.levels is not None:
        centre = UniformDequantization(event.levels).bin_centre(batch)
        tally.bin_centre.append(bits_of(model(centre), event))
    if tally.reconstruction_error is None:
        tally.reconstruction_error = float((model.generate(result.z) - u).abs().max())


class _Tally:
    """Figures gathered batch by batch."""

    def __init__(self) -> None:
        self.bits: list[Tensor] = []
        self.bin_centre: list[Tensor] = []
        self.penalties: dict[str, list[Tensor]] = {}
        self.evaluations: list[int] = []
        self.blocks: list[SolveStats] = []
        self.reconstruction_error: float | None = None

    def add(self, bits: Tensor, penalties: dict[str, Tensor]) -> None:
        """Take in a batch."""
        self.bits.append(bits)
        for name, value in penalties.items():
            self.penalties.setdefault(name, []).append(value)

    def evaluation(self) -> Evaluation:
        """Return the means."""
        bits = torch.cat(self.bits).double()
        return Evaluation(
            samples=len(bits),
            bits_per_dim=float(bits.mean()),
            bits_per_dim_stderr=_standard_error(bits),
            bits_per_dim_bin_centre=_mean(self.bin_centre),
            kinetic_energy=_mean(self.penalties.get("kinetic_energy")),
            jacobian_frobenius=_mean(self.penalties.get("jacobian_frobenius")),
            nfe_forward=sum(self.evaluations) / len(self.evaluations),
            reconstruction_error=self.reconstruction_error or 0.0,
            blocks=self.blocks,
        )


def _mean(parts: list[Tensor] | None) -> float | None:
    return float(torch.cat(parts).double().mean()) if parts else None


def _standard_error(values: Tensor) -> float | None:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
