"""How often the host may read a value of the device: what stands today, and what shall stand.

A GPU is waited for once for each reading. When a count goes down, its bound goes down with it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A bound on readings.

    Attributes:
        now: What the tests allow.
        target: What is aimed at.
    """

    now: int
    target: int


DISCRETE, CHECKPOINTED = "DiscreteAdjoint", "CheckpointedAdjoint"
BACKSOLVE, INTERPOLATING = "BacksolveAdjoint", "InterpolatingAdjoint"
REVERSIBLE = "ReversibleAdjoint"

# One solve with fixed steps, whatever their number, and its backward pass, where their checks are
# read together with those of others: within `deferred_checks()`.
FIXED_SOLVE = {
    DISCRETE: Budget(now=0, target=0),
    CHECKPOINTED: Budget(now=0, target=0),
    BACKSOLVE: Budget(now=0, target=0),
    INTERPOLATING: Budget(now=0, target=0),
    REVERSIBLE: Budget(now=0, target=0),
}
FIXED_BACKWARD = {
    DISCRETE: Budget(now=0, target=0),
    CHECKPOINTED: Budget(now=0, target=0),
    BACKSOLVE: Budget(now=0, target=0),
    INTERPOLATING: Budget(now=0, target=0),
    REVERSIBLE: Budget(now=0, target=0),
}
# Either of the two by itself: whoever goes on with the result must know that it is sound.
ALONE = Budget(now=1, target=1)
# One more step of an adaptive solve, accepted or rejected: alone, and within a flow, whose error
# control leaves the penalties out.
ADAPTIVE_STEP = Budget(now=1, target=1)
ADAPTIVE_STEP_OF_A_FLOW = Budget(now=1, target=1)
# What an adaptive solve reads besides its steps, its checks left out: the length of its first one.
ADAPTIVE_START = Budget(now=2, target=2)

# A training step of six blocks with fixed steps: the clipped gradient, the update, the figures.
TRAINING_STEP = {
    DISCRETE: Budget(now=1, target=1),
    CHECKPOINTED: Budget(now=1, target=1),
    BACKSOLVE: Budget(now=1, target=1),
    INTERPOLATING: Budget(now=1, target=1),
    REVERSIBLE: Budget(now=1, target=1),
}
# The same by adaptive steps, as the CIFAR-10 recipe trains, besides what the steps themselves read.
TRAINING_STEP_BESIDE_ADAPTIVE_STEPS = Budget(now=1, target=1)
# What a step reads more whose figures are written down, or shown.
WRITTEN_STEP = Budget(now=0, target=0)
# Figures of a device, however many.
FIGURES = Budget(now=1, target=1)
# A training step without a solve, whose loss and gradient are looked at once. An optimal coupling
# is found on the host.
MATCHING = {"independent": Budget(now=1, target=1), "minibatch-ot": Budget(now=2, target=2)}
# Drawing samples by fixed steps through six blocks; and bringing them home, which is the same one.
SAMPLING = Budget(now=1, target=1)
