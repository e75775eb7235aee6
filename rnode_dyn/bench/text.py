"""The timings of training steps as people read them."""

from rich.table import Table

from rnode_dyn.bench.bench import Bench


def bench_table(timed: Bench) -> Table:
    """Return a row for each kind of step."""
    table = Table(box=None, header_style="dim")
    table.add_column("step", no_wrap=True)
    for name in ("seconds", "samples/s", "relative", "nfe", "nfe backward"):
        table.add_column(name, justify="right")
    for step in timed.steps:
        table.add_row(
            step.name,
            f"{step.seconds:.3g}",
            f"{timed.batch_size / step.seconds:,.4g}",
            f"{step.relative:.2f}",
            *(str(n) if n else "–" for n in (step.evaluations, step.evaluations_backward)),
        )
    return table
