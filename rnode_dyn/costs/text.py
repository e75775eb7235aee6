"""A training step's cost as people read it, and as machines do."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rnode_dyn.costs.cost import TrainingCost
from rnode_dyn.costs.epoch import hours

_THOUSAND = 1000


@dataclass(frozen=True)
class Rate:
    """Operations a second, and how they are known.

    Attributes:
        flops_per_second: The rate.
        source: Where it comes from, in words.
    """

    flops_per_second: float
    source: str


def cost_figures(cost: TrainingCost, samples: int | None, rate: Rate | None) -> dict[str, Any]:
    """Return a cost as plain values.

    Args:
        cost: Of one training step.
        samples: Samples in an epoch, where they are known.
        rate: How fast a machine computes, where that is known.
    """
    flops = cost.step_flops / cost.batch_size
    epoch = None if samples is None else round(samples * flops)
    return {
        "batch_size": cost.batch_size,
        "flops_per_image_forward": round(cost.forward_flops / cost.batch_size),
        "flops_per_image_step": round(flops),
        "memory_per_image_bytes": round(cost.bytes / cost.batch_size),
        "memory_per_batch_bytes": cost.bytes,
        "evaluations_assumed": cost.assumed,
        "train_size": samples,
        "flops_per_epoch": epoch,
        "flops_per_second": None if rate is None else rate.flops_per_second,
        "flops_per_second_source": None if rate is None else rate.source,
        "hours_per_epoch": _hours(samples, flops, rate),
        "hours_per_1000_images": _hours(_THOUSAND, flops, rate),
        "blocks": [block.per_sample(cost.batch_size) for block in cost.blocks],
    }


def cost_table(
    cost: TrainingCost, samples: int | None, rate: Rate | None, at_once: int | None = None
) -> Table:
    """Return a cost as a table: per image, per batch and per epoch.

    Args:
        cost: Of one training step.
        samples: Samples in an epoch, where they are known.
        rate: How fast a machine computes, where that is known.
        at_once: Samples that are solved at once, whose memory is a batch's; all when left out.
    """
    figures = cost_figures(cost, samples, rate)
    flops = figures["flops_per_image_step"]
    count, of = (_THOUSAND, "1,000 images") if samples is None else (samples, f"{samples:,} images")
    table = Table("", "image", f"batch of {cost.batch_size:,}", of, box=None, header_style="dim")
    table.add_row("forward pass", *_scaled(figures["flops_per_image_forward"], cost, count))
    table.add_row("training step", *_scaled(flops, cost, count))
    kept = figures["memory_per_image_bytes"]
    sizes = (kept, (at_once or cost.batch_size) * kept)
    table.add_row("memory for the gradient", *(unit(n, "B") for n in sizes), "")
    if rate is not None:
        table.add_row("time", *(_clock(n * flops, rate) for n in (1, cost.batch_size, count)))
    return table


def cost_notes(cost: TrainingCost, samples: int | None, rate: Rate | None) -> list[str]:
    """Return what has to be known to read the table, a line each."""
    notes = []
    if cost.assumed:
        counts = sorted({block.counts.forward for block in cost.blocks if block.assumed})
        listed = ", ".join(map(str, counts))
        notes.append(
            f"assumed: {listed} evaluations in a block whose steps the training chooses "
            "(--evaluations N says otherwise)"
        )
    if samples is None:
        notes.append("the size of the training split is not known without reading the data")
    if rate is None:
        notes.append("--flops 1e13 or --measure tells the time as well")
    else:
        notes.append(f"{unit(rate.flops_per_second, 'FLOP/s')}: {rate.source}")
    return notes


def _scaled(flops: float, cost: TrainingCost, count: int) -> list[str]:
    return [unit(n * flops, "FLOP") for n in (1, cost.batch_size, count)]


def _hours(samples: int | None, flops: float, rate: Rate | None) -> float | None:
    if samples is None or rate is None:
        return None
    return hours(samples, flops, rate.flops_per_second)


def _clock(flops: float, rate: Rate) -> str:
    """Return how long so many operations take, in a unit that suits.

    Example:
        >>> _clock(7.2e12, Rate(1e9, "stated")), _clock(5e8, Rate(1e9, "stated"))
        ('2 h', '0.5 s')
    """
    return clock(flops / rate.flops_per_second)


def clock(seconds: float) -> str:
    """Return a time in a unit that suits.

    Example:
        >>> clock(90), clock(7200)
        ('1.5 min', '2 h')
    """
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.2g} s"


def unit(value: float, unit: str) -> str:
    """Return a number with a decimal prefix.

    Example:
        >>> unit(38_200_000_000, "FLOP"), unit(512, "B")
        ('38.2 GFLOP', '512 B')
    """
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:,.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
