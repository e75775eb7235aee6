"""How far a solve has come, shown on the terminal while it runs."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.stats import SolveStats


class SolveProgress:
    """A bar with the share of the span that is done, the steps and the evaluations.

    It is written to the standard error stream.

    Args:
        span: Start and end of the solve.
        stats: Where its cost is counted.
        console: Where to show it, instead of there.
    """

    def __init__(
        self, span: tuple[float, float], stats: SolveStats, console: Console | None = None
    ) -> None:
        self.span, self.stats = span, stats
        self.bar = Progress(
            TextColumn("t = {task.fields[t]:.4g}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[steps]} steps, {task.fields[nfe]} evaluations"),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=1.0, t=span[0], steps=0, nfe=0)

    def __enter__(self) -> "SolveProgress":
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()

    def __call__(self, step: Step) -> None:
        """Move the bar to the end of a step."""
        t0, t1 = self.span
        share = (step.t1 - t0) / (t1 - t0)
        steps, nfe = self.stats.accepted + self.stats.rejected, self.stats.nfe
        self.bar.update(self.task, completed=share, t=step.t1, steps=steps, nfe=nfe)
