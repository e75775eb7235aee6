"""What is said of a training that cannot go on."""

import pytorch_lightning as pl

from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.loop.across import batches_read, told_by_all
from rnode_dyn.training.loop.blame import Blame
from rnode_dyn.training.loop.errors import DivergedError
from rnode_dyn.training.loop.step_figures import StepFigures

_SHOWN = 8
_MEND = (
    "lower train.learning_rate, lengthen train.warmup_steps, give train.clip or raise the weights "
    'in [regularizers]; train.on_nonfinite = "skip" leaves out what is not finite'
)


def diverged(
    trainer: pl.Trainer, steps: int, fault: str, step: StepFigures, found: Blame | None
) -> DivergedError | SolverError:
    """Return what to raise of a step that is not sound.

    Of a single process whose solve broke down that is the solve's own error, with a note; else a
    ``DivergedError`` that says what each process has found.

    Args:
        trainer: The trainer.
        steps: Steps before it.
        fault: What is wrong with it.
        step: Its figures and parts.
        found: The block to blame in this process.
    """
    number = step.parts[-1].number
    read = batches_read(trainer)
    samples = (
        () if read is None else tuple(i for part in step.parts for i in read.indices(part.number))
    )
    where = f"step {steps}, epoch {trainer.current_epoch}, batch {number}"
    own = _own_words(samples, found) if trainer.is_global_zero or (found and found.severe) else ""
    told = "; ".join(told_by_all(trainer, own))
    if step.broken is not None and trainer.world_size == 1:
        step.broken.add_note(f"{where}: {told}")
        return step.broken
    text = f"{where}: {fault}; {told}. To mend it, {_MEND}."
    block = None if found is None else found.block
    return DivergedError(text, step=steps, batch=number, samples=samples, block=block)


def _own_words(samples: tuple[int, ...], found: Blame | None) -> str:
    block = "no block was solved" if found is None else found.words
    if not samples:
        return block
    shown = ", ".join(map(str, samples[:_SHOWN]))
    more = f" and {len(samples) - _SHOWN} more" if len(samples) > _SHOWN else ""
    return f"samples {shown}{more}; {block}"
