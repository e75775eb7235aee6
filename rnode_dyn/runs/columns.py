"""Names of the columns of ``metrics.csv``."""

from typing import Literal

STEP = "step"
SECONDS = "training_s"
HELD_OUT = "validation/bits_per_dim"
EVALUATIONS = "train/evaluations"
JACOBIAN = "train/jacobian_frobenius"
STAGE = "stage"

Against = Literal["seconds", "steps"]
"""What a training's figures are drawn against."""
