"""Noticing that a gradient stopped being finite on its way back through the steps."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.checks import check, deferred_checks
from rnode_dyn.numerics.errors import (
    BACKWARD,
    NonFiniteStateError,
    SolverError,
    is_of_the_gradient,
)
from rnode_dyn.numerics.finite import broken_samples, is_broken, is_sound_now
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.step import Stretch, rows
from rnode_dyn.numerics.stepping.error_norm import worst_sample
from rnode_dyn.numerics.transforms import is_batched

OTHER_STEP = (
    "a step that CheckpointedAdjoint made again came out different: the field depends on something "
    "that changes between two evaluations, and that is neither torch's random numbers nor a tensor "
    "it writes to at its first evaluation; keep such things fixed during a solve, or take "
    "DiscreteAdjoint()."
)
"""What to say of the steps of CheckpointedAdjoint."""

# One for the whole batch, or one a sample.
_Number = float | np.ndarray
Place = tuple[_Number, _Number]


def said_of_the_backward_pass(error: SolverError) -> SolverError:
    """Make an error of a backward solve say that it is one."""
    if is_of_the_gradient(error):
        return error
    return error.changed(reason=f"{BACKWARD}: {error.reason}")


class GradientWatch:
    """Notes which samples' gradients are finite, step by step, and checks them at the end.

    The notes of a GPU are one check, so that it is waited for once in a backward pass, or not at
    all where the checks are read later. In float16 autocast nothing is noted: gradients overflow
    there by design, and the scaler skips the update.

    Args:
        stats: The solve's cost so far, for the error.
        device_type: Where the solve runs.
    """

    def __init__(self, stats: SolveStats, device_type: str) -> None:
        self.stats = stats
        scaled = torch.get_autocast_dtype(device_type) is torch.float16
        self.idle = scaled and torch.is_autocast_enabled(device_type)
        self.broken: list[Tensor] = []
        self.places: list[Place] = []
        self.latest: Tensor | None = None

    def note(self, gradient: Tensor | None, t: _Number, dt: _Number) -> None:
        """Note the gradient of the state at ``t``, got by going back ``dt``.

        There is none where a second derivative does not pass this way, and none that could be
        read where many are asked for at once, by ``vmap``.
        """
        if gradient is not None and not self.idle and not is_batched(gradient):
            self.latest = gradient.detach()
            self.broken.append(broken_samples(gradient))
            self.places.append((t, dt))
            if gradient.device.type == "cpu":
                self.conclude()

    def is_sound(self, gradient: Tensor | None) -> bool:
        """Whether a state's gradient is finite, where it can be read without waiting for it."""
        if gradient is None or not _is_at_hand(gradient):
            return False
        self.latest = gradient.detach()
        return is_sound_now(gradient)

    def is_sound_parameter(self, gradient: Tensor) -> bool:
        """Whether a parameter's gradient is finite, likewise."""
        return _is_at_hand(gradient) and is_sound_now(gradient)

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

    def conclude(self) -> None:
        """Raise for the first gradient on the way back that was not finite."""
        if self.broken:
            table, places, nfe = torch.stack(self.broken), self.places, self._nfe
            self.broken, self.places = [], []
            check(~table.any(), lambda: _broken_state(table.cpu(), places, nfe))

    def conclude_parameter(self, gradient: Tensor, t: float) -> None:
        """Raise for the gradient of a parameter, which may overflow though the state's is finite.

        Args:
            gradient: All of it that there is in this backward pass.
            t: Start of the solve.
        """
        if self.idle or is_batched(gradient) or gradient.layout is not torch.strided:
            return
        self.conclude()
        adjoint, nfe = self.latest, self._nfe
        check(~is_broken(gradient), lambda: _broken_parameter(adjoint, t, nfe))

    def conclude_all(
        self, gradients: Sequence[Tensor | None], t: float, same: Sequence[Tensor], otherwise: str
    ) -> None:
        """Raise for what is not as it should be at the end, all of it read at once.

        Args:
            gradients: Of the parameters.
            t: Start of the solve.
            same: Whether what was computed again came out as at the first time.
            otherwise: What to say where it did not.

        Raises:
            RuntimeError: if it did not.
        """
        with deferred_checks():
            self.conclude()
            check(torch.stack(tuple(same)).all(), lambda: RuntimeError(otherwise))
            for gradient in gradients:
                if gradient is not None:
                    self.conclude_parameter(gradient, t)

    @property
    def _nfe(self) -> int:
        return self.stats.nfe + self.stats.nfe_backward


def _is_at_hand(gradient: Tensor) -> bool:
    """Whether it can be read without waiting for it."""
    return gradient.is_cpu and gradient.layout is torch.strided and not is_batched(gradient)


def _broken_state(table: Tensor, places: list[Place], nfe: int) -> NonFiniteStateError:
    """What is raised given which samples, a column each, were broken at which of the places."""
    row = int(table.any(1).int().argmax())
    worst = int(table[row].int().argmax())
    t, dt = (float(np.broadcast_to(part, table[row].shape)[worst]) for part in places[row])
    return NonFiniteStateError(
        f"{BACKWARD}: the gradient is not finite any more",
        t=t,
        dt=dt,
        steps=row + 1,
        nfe=nfe,
        worst_sample=worst,
    )


def _broken_parameter(adjoint: Tensor | None, t: float, nfe: int) -> NonFiniteStateError:
    """What is raised given the state's gradient: a parameter has no samples, and that one has."""
    return NonFiniteStateError(
        f"{BACKWARD}: the gradient of a parameter is not finite",
        t=t,
        dt=0.0,
        steps=1,
        nfe=nfe,
        worst_sample=0 if adjoint is None else int(worst_sample(adjoint)),
    )
