"""Whether a training's numbers are sound: finite, and not far worse than noise."""

import math
from dataclasses import dataclass
from typing import Any, Literal

OnNonFinite = Literal["stop", "skip"]

MOST_SKIPPED = 10
"""After so many skipped steps in a row a training stops."""

# Times the bits of uniform noise, or of what the untrained flow scored at first where that is more.
_WORSE_THAN_NOISE, _WORSE_THAN_UNTRAINED = 3.0, 2.0


@dataclass
class Watch:
    """Judges the figures of each step, and counts what was skipped.

    Attributes:
        levels: Values a pixel can take; ``None``: continuous data, of which no noise is uniform.
        warmup_steps: Steps during which bits/dim may be anything finite.
        on_nonfinite: What to do with a step that is not finite.
        skipped: Steps that were skipped.
        in_a_row: How many of them were the last ones.
        untrained: Bits/dim of the first step; ``None`` before it.

    Example:
        >>> watch = Watch(levels=256)
        >>> watch.fault(12.0, 1.0, bits=12.0, steps=0), watch.most_bits
        (None, 24.0)
        >>> watch.fault(30.0, 1.0, bits=30.0, steps=1)
        '30 bits/dim are more than 24, 3 times those of uniform noise'
        >>> watch.fault(math.nan, 1.0, bits=None, steps=1)
        'the loss is not finite (nan)'
    """

    levels: int | None = None
    warmup_steps: int = 0
    on_nonfinite: OnNonFinite = "stop"
    skipped: int = 0
    in_a_row: int = 0
    untrained: float | None = None

    @property
    def most_bits(self) -> float:
        """Bits/dim that are too many, once warm."""
        if self.levels is None:
            return math.inf
        noise = _WORSE_THAN_NOISE * math.log2(self.levels)
        return max(noise, _WORSE_THAN_UNTRAINED * (self.untrained or 0.0))

    def fault(self, loss: float, norm: float, bits: float | None, steps: int) -> str | None:
        """Say what is wrong with a step, if anything is.

        Args:
            loss: Its loss.
            norm: Norm of its gradient.
            bits: Its bits/dim; ``None`` where the objective has none.
            steps: Steps before it in its stage.
        """
        if not math.isfinite(loss):
            return f"the loss is not finite ({loss})"
        if not math.isfinite(norm):
            return f"the gradient is not finite (its norm is {norm})"
        if bits is None:
            return None
        if self.untrained is None:
            self.untrained = bits
        return self.too_many(bits) if steps >= self.warmup_steps else None

    def too_many(self, bits: float) -> str | None:
        """Say so where a flow, once warm, is far worse than noise."""
        if not math.isfinite(bits):
            return f"bits/dim are not finite ({bits})"
        if bits <= self.most_bits:
            return None
        of_noise = self.most_bits == _WORSE_THAN_NOISE * math.log2(self.levels or 1)
        what = "3 times those of uniform noise" if of_noise else "twice those of the untrained flow"
        return f"{bits:,.4g} bits/dim are more than {self.most_bits:,.4g}, {what}"

    def fault_of_held_out(self, bits: float, steps: int) -> str | None:
        """Say what is wrong with a validation, if anything is; steps are those before it.

        Where training itself knows no bits/dim, as in flow matching, they only have to be finite.
        """
        if math.isfinite(bits) and bits <= self.most_bits_after(steps):
            return None
        return self.too_many(bits)

    def most_bits_after(self, steps: int) -> float:
        """Bits/dim that are too many after so many steps of the stage."""
        judged = self.untrained is not None and steps > self.warmup_steps
        return self.most_bits if judged else math.inf

    def skip(self, always: bool = False) -> bool:
        """Count a step that is not finite; return whether it may be skipped.

        Args:
            always: Skip it also where training stops else.
        """
        if self.on_nonfinite == "stop" and not always:
            return False
        self.skipped += 1
        self.in_a_row += 1
        return self.in_a_row < MOST_SKIPPED

    def in_words(self, fault: str) -> str:
        """Add to what is wrong how often in a row it has been."""
        return fault if self.in_a_row < 2 else f"{fault}, as in {self.in_a_row} steps in a row"

    def go_on(self) -> None:
        """Count a sound step."""
        self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """Keep what was counted, for a run that goes on."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "untrained": self.untrained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.untrained = state["untrained"]
