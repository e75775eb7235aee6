"""What is raised of a training that cannot go on."""


class DivergedError(RuntimeError):
    """A training whose numbers are no longer finite, or whose flow has become worse than noise.

    Attributes:
        step: Optimizer steps that had been taken, earlier stages included.
        batch: Number of the batch in its epoch; ``None`` where all weights are to blame.
        samples: Which training samples this process had in it; empty where that is not known.
        block: Number of the continuous block to blame, from 0; ``None`` where none is.
    """

    def __init__(
        self,
        reason: str,
        *,
        step: int,
        batch: int | None = None,
        samples: tuple[int, ...] = (),
        block: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.step, self.batch, self.samples, self.block = step, batch, samples, block


class LostProcessError(RuntimeError):
    """One of several processes of a training that has lost the others."""
