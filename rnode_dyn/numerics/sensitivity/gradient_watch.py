"""Noticing that a gradient stopped being finite on its way back through the steps."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.step import Stretch, rows
from rnode_dyn.numerics.stepping.error_norm import worst_sample
from rnode_dyn.numerics.transforms import is_batched

# One for the whole batch, or one a sample.
_Number = float | np.ndarray

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
        self.places: list[tuple[_Number, _Number]] = []

    def start(self, x0: Tensor, t0: float) -> Tensor:
        """Return the start as a tensor of its own whose gradient, the last to come, is noted."""
        if not (torch.is_grad_enabled() and x0.requires_grad):
            return x0
        x0 = x0.view_as(x0)

        def check(gradient: Tensor | None) -> None:
            self.note(gradient, t0, 0.0)
            self.conclude()

        x0.register_hook(check)
        return x0

    def note(self, gradient: Tensor | None, t: _Number, dt: _Number) -> None:
        """Note the gradient of the state at ``t``, got by going back ``dt``.

        There is none where a second derivative does not pass this way, and none that could be
        read where many are asked for at once, by ``vmap``.
        """
        if gradient is not None and not self.idle and not is_batched(gradient):
            self.finite.append(torch.isfinite(gradient).reshape(len(gradient), -1).all(1))
            self.places.append((t, dt))
            if gradient.device.type == "cpu":
                self.conclude()

    def note_samples(self, gradient: Tensor | None, stretch: Stretch, batch: int) -> None:
        """Note the gradient at the end of a step that some samples took, each by itself."""
        if gradient is None:
            return
        whole = gradient.new_zeros(batch)
        places = rows(stretch.samples, gradient)
        # The largest entry stands for all of a sample's: NaN and infinity are seen in it.
        whole.index_copy_(0, places, gradient.detach().flatten(1).abs().amax(1))
        t, dt = np.zeros(batch), np.zeros(batch)
        t[stretch.samples], dt[stretch.samples] = stretch.t1, -stretch.dt
        self.note(whole, t, dt)

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
        t, dt = (float(np.broadcast_to(part, table[row].shape)[worst]) for part in places[row])
        self._fail("the gradient is not finite any more", t, dt, row + 1, worst)

    def _fail(self, reason: str, t: float, dt: float, steps: int, worst: int) -> NoReturn:
        raise NonFiniteStateError(
            f"in the backward pass: {reason}",
            t=t,
            dt=dt,
            steps=steps,
            nfe=self.stats.nfe + self.stats.nfe_backward,
            worst_sample=worst,
        )
