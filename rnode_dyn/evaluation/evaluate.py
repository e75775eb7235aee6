"""Measuring a trained flow on held-out data: likelihood by name, cost, and penalties."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.paired import AnyBatch, taken_apart
from rnode_dyn.data.splits import Event
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.evaluation.exact import batches_for_exact, check_exact, scored_by
from rnode_dyn.evaluation.protocol import BlockCost, Protocol, costs_of_blocks
from rnode_dyn.flows.augmented_flow import refuse_bound
from rnode_dyn.flows.conditions import as_precise
from rnode_dyn.flows.divergence import Divergence, ExactDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.standardize import log_scale
from rnode_dyn.flows.variational import dequantization_of
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.checks import deferred_checks
from rnode_dyn.numerics.seeding import seeded


@dataclass(frozen=True)
class Evaluation:
    """What a flow scores on a set of samples.

    A standard error is over the samples, and ``None`` for a single one.

    Attributes:
        samples: How many there were.
        bits_per_dim: Mean bits per dimension; of dequantized pixels where the data have levels,
            which bounds those of the pixels; by learned noise, where ``protocol.dequantization``
            is ``"variational"``.
        bits_per_dim_stderr: Its standard error.
        bits_per_dim_bin_centre: The same figure at the centres of the pixels' bins, which the
            authors' validation printed; ``None`` for continuous data. It is no likelihood of the
            pixels and compares with no dequantized figure.
        bits_per_dim_bin_centre_stderr: Its standard error.
        log_likelihood_nats: Mean log-likelihood of a whole sample in nats:
            −``bits_per_dim`` · dimensions · log 2.
        log_likelihood_nats_stderr: Its standard error.
        log_likelihood_nats_standardised: The same of a sample in standardised units, in which the
            units that the data come in do not count; ``None`` where the flow standardises nothing.
        kinetic_energy: Mean penalty, summed over blocks; ``None`` where no block integrates it.
        jacobian_frobenius: Likewise.
        nfe_forward: Evaluations of the field in one forward pass, summed over blocks, mean over
            the batches.
        reconstruction_error: Largest |inverse(forward(u)) − u| over the first batch.
        blocks: The continuous blocks in order, how each was solved, and what that cost.
        protocol: How all of this was measured.
    """

    samples: int
    bits_per_dim: float
    bits_per_dim_stderr: float | None
    bits_per_dim_bin_centre: float | None
    bits_per_dim_bin_centre_stderr: float | None
    log_likelihood_nats: float
    log_likelihood_nats_stderr: float | None
    log_likelihood_nats_standardised: float | None
    kinetic_energy: float | None
    jacobian_frobenius: float | None
    nfe_forward: float
    reconstruction_error: float
    blocks: list[BlockCost]
    protocol: Protocol

    def as_dict(self) -> dict:
        """Return the figures as plain values."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: MultiscaleFlow,
    batches: Iterable[AnyBatch],
    event: Event,
    seed: int = 0,
    *,
    divergence: Divergence | None = None,
    split: str | None = None,
    split_samples: int | None = None,
    bin_centre: bool = True,
) -> Evaluation:
    """Score a flow with its evaluation solver and divergence.

    Args:
        model: The flow; it is put in evaluation mode.
        batches: Batches of integer pixels or of continuous samples, of a conditional flow with
            their conditions.
        event: What one sample looks like.
        seed: Seed of the dequantization and of the divergence's noise.
        divergence: How to find the trace in every block; left out, as each block's own.
            ``ExactDivergence()`` is for blocks of at most 1,024 dimensions.
        split: Name of the split that the samples are of, for the protocol.
        split_samples: How many samples that split has, likewise.
        bin_centre: Score the pixels' bin centres too, which costs as much again.

    Raises:
        TooManyDimensionsError: if the exact trace is asked of larger blocks.
        TypeError: if the flow has no exact density.
        ValueError: if there is no sample.
    """
    refuse_bound(model, "evaluate()")
    if isinstance(divergence, ExactDivergence):
        check_exact(model)
        batches = batches_for_exact(model, batches)
    model.eval()
    tally = _Tally(log_scale(model))
    device = first_weight(model).device
    with scored_by(model, divergence), seeded(device, seed):
        for batch in batches:
            with deferred_checks():
                _score(model, batch.to(device), event, tally, bin_centre)
        if not tally.bits:
            raise ValueError("there is no sample to evaluate: the split is empty.")
        blocks = costs_of_blocks(model, tally.passes)
    return tally.evaluation(
        event, blocks, _protocol(model, tally, event, blocks, seed, split, split_samples)
    )


def first_of(batches: Iterable[AnyBatch], count: int) -> Iterator[AnyBatch]:
    """Yield the batches' first ``count`` samples.

    Example:
        >>> import torch
        >>> [len(batch) for batch in first_of([torch.zeros(4, 2), torch.zeros(4, 2)], 6)]
        [4, 2]
    """
    for batch in batches:
        yield batch[:count]
        count -= len(batch)
        if count <= 0:
            return


def _score(
    model: MultiscaleFlow, batch: AnyBatch, event: Event, tally: "_Tally", bin_centre: bool
) -> None:
    dtype = first_weight(model).dtype
    samples, conditions = taken_apart(batch)
    given = {name: as_precise(model, condition) for name, condition in conditions.items()}
    u = samples if event.levels is None else UniformDequantization(event.levels)(samples).to(dtype)
    result = model(u, **given)
    tally.add(bits_of(result, event), result.penalties)
    stats = [block.stats for block in model.blocks]
    tally.passes.append([(s.nfe, s.accepted, s.rejected) for s in stats])
    if event.levels is not None and bin_centre:
        centre = UniformDequantization(event.levels).bin_centre(samples).to(dtype)
        tally.bin_centre.append(bits_of(model(centre, **given), event))
    if tally.reconstruction_error is None:
        tally.reconstruction_error = float((model.generate(result.z, **given) - u).abs().max())


def _protocol(
    model: MultiscaleFlow,
    tally: "_Tally",
    event: Event,
    blocks: list[BlockCost],
    seed: int,
    split: str | None,
    split_samples: int | None,
) -> Protocol:
    return Protocol(
        split=split,
        samples=sum(map(len, tally.bits)),
        split_samples=split_samples,
        levels=event.levels,
        dequantization=None if event.levels is None else dequantization_of(model),
        solvers=list(dict.fromkeys(block.solver for block in blocks)),
        divergences=list(dict.fromkeys(block.divergence for block in blocks)),
        batch_size=max(map(len, tally.bits)),
        seed=seed,
    )


class _Tally:
    """Figures gathered batch by batch."""

    def __init__(self, log_scale: float | None) -> None:
        self.log_scale = log_scale
        self.bits: list[Tensor] = []
        self.bin_centre: list[Tensor] = []
        self.penalties: dict[str, list[Tensor]] = {}
        self.passes: list[list[tuple[int, ...]]] = []
        self.reconstruction_error: float | None = None

    def add(self, bits: Tensor, penalties: dict[str, Tensor]) -> None:
        """Take in a batch."""
        self.bits.append(bits)
        for name, value in penalties.items():
            self.penalties.setdefault(name, []).append(value)

    def evaluation(self, event: Event, blocks: list[BlockCost], protocol: Protocol) -> Evaluation:
        """Return the means."""
        nats_per_bit = event.dims * math.log(2)
        bits, stderr = _mean(self.bits), _standard_error(self.bits)
        assert bits is not None  # there is a sample
        nats = -bits * nats_per_bit
        return Evaluation(
            samples=protocol.samples,
            bits_per_dim=bits,
            bits_per_dim_stderr=stderr,
            bits_per_dim_bin_centre=_mean(self.bin_centre),
            bits_per_dim_bin_centre_stderr=_standard_error(self.bin_centre),
            log_likelihood_nats=nats,
            log_likelihood_nats_stderr=None if stderr is None else stderr * nats_per_bit,
            log_likelihood_nats_standardised=(
                None if self.log_scale is None else nats + self.log_scale
            ),
            kinetic_energy=_mean(self.penalties.get("kinetic_energy")),
            jacobian_frobenius=_mean(self.penalties.get("jacobian_frobenius")),
            nfe_forward=sum(block.nfe for block in blocks),
            reconstruction_error=self.reconstruction_error or 0.0,
            blocks=blocks,
            protocol=protocol,
        )


def _mean(parts: list[Tensor] | None) -> float | None:
    return float(torch.cat(parts).double().mean()) if parts else None


def _standard_error(parts: list[Tensor]) -> float | None:
    values = torch.cat(parts).double() if parts else torch.empty(0)
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
