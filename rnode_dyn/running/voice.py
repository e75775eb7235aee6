"""What a run says to people while it runs; of several processes the first one speaks."""

from dataclasses import dataclass

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console


def is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0


@dataclass(frozen=True)
class Voice:
    """Where a run speaks.

    Args:
        console: Where to; nowhere, when left out.
        phases: Whether it says when training, measuring and drawing begin, which take a while.
    """

    console: Console | None = None
    phases: bool = False

    @property
    def shown(self) -> Console:
        """The console, which is quiet in all processes but the first."""
        return self.console if self.console is not None and is_first() else Console(quiet=True)

    def tell(self, text: str) -> None:
        """Say a sentence that people should see."""
        self.shown.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def announce(self, text: str) -> None:
        """Say what comes next, if that is wanted."""
        if self.phases:
            self.shown.print(text, highlight=False, markup=False, soft_wrap=True)
