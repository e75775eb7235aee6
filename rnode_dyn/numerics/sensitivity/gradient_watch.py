"""Noticing that a gradient stopped being finite on its way back through the steps."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.error_norm import worst_sample
from rnode_dyn.numerics.transforms import is_batched

_OTHER_STEP = (
    "a step that CheckpointedAdjoint made again came out different: the field depends on something "
    "that changes between two evaluations, and that is neither torch's random numbers nor a tensor "
    "it writes to at its first evaluation; keep such things fixed during a solve, or take "
    "DiscreteAdjoint()."
)


class GradientWatch:
    """Notes which samples' gradients are finite, step by step, and raises at the end.

    The notes of a GPU are read together, so that it is waited for once in a backward pass. In
    float16 autocast nothing is noted: gradients overflow there by design, and the scaler skips the
    update.

    Args:
        stats: The solve's cost so far, for the error.
        device_type: Where the solve runs.
    """

    def __init__(self, stats: SolveStats, device_type: str) -> None:
        self.stats = stats
        scaled = torch.get_autocast_dtype(device_type) is torch.float16
        self.idle = scaled and torch.is_autocast_enabled(device_type)
        self.finite: list[Tensor] = []
        self.places: list[tuple[float, float]] = []

    def note(self, gradient: Tensor | None, t: float, dt: float) -> None:
        """Note the gradient of the state at ``t``, got by going back ``dt``.

        There is none where a second derivative does not pass this way, and none that could be
        read where many are asked for at once, by ``vmap``.
        """
        if gradient is not None and not self.idle and not is_batched(gradient):
            self.finite.append(torch.isfinite(gradient).reshape(len(gradient), -1).all(1))
            self.places.append((t, dt))
            if gradient.device.type == "cpu":
                self.conclude()

    def conclude_all(
        self, gradients: Sequence[Tensor | None], adjoint: Tensor, t: float, same: Sequence[Tensor]
    ) -> None:
        """Raise for what is not as it should be at the end, all of it read at once.

        Args:
            gradients: Of the parameters, which may overflow though the state's is finite.
            adjoint: Gradient of the state at the start.
            t: The start.
            same: Whether the steps that were made again came out as at the first time.

        Raises:
            RuntimeError: if one did not.
        """
        finite = [torch.isfinite(gradient).all() for gradient in gradients if gradient is not None]
        as_it_should = [*self._all_finite(), *([] if self.idle else finite), *same]
        if bool(torch.stack(as_it_should).all()):
            return
        if not bool(torch.stack(tuple(same)).all()):
            raise RuntimeError(_OTHER_STEP)
        self.conclude()
        self._fail("the gradient of a parameter is not finite", t, 0.0, 1, worst_sample(adjoint))

    def _all_finite(self) -> list[Tensor]:
        return [torch.stack(self.finite).all()] if self.finite else []

    def conclude(self) -> None:
        """Raise for the first gradient on the way back that was not finite."""
        finite, places = self.finite, self.places
        self.finite, self.places = [], []
        if not finite or bool(torch.stack(finite).all()):
            return
        table = torch.stack(finite).cpu()
        row = int((~table.all(1)).int().argmax())
        worst = int((~table[row]).int().argmax())
        self._fail("the gradient is not finite any more", *places[row], row + 1, worst)

    def _fail(self, reason: str, t: float, dt: float, steps: int, worst: int) -> NoReturn:
        raise NonFiniteStateError(
            f"in the backward pass: {reason}",
            t=t,
            dt=dt,
            steps=steps,
            nfe=self.stats.nfe + self.stats.nfe_backward,
            worst_sample=worst,
        )
