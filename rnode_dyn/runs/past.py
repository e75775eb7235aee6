"""What a training has behind it, as its checkpoints keep it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Past:
    """What a training had behind it when a stage began.

    Attributes:
        stage: Number of the stage that began, from 0.
        steps: Optimizer steps of the earlier stages.
        training_s: Seconds of training, validation left out.
        wall_clock_s: Seconds of training and validation.
    """

    stage: int = 0
    steps: int = 0
    training_s: float = 0.0
    wall_clock_s: float = 0.0
