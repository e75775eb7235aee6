"""Matching again, on the pairs that a trained flow itself makes: its paths become straighter."""

from copy import deepcopy
from dataclasses import dataclass, field

from torch import Tensor

from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.path_choices import excluded_choice
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.algorithms.classic import RK4
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.solve import Solver
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.training.objectives.base import refuse_guided
from rnode_dyn.training.objectives.flow_matching import FlowMatching


@dataclass(frozen=True)
class Reflow(FlowMatching):
    """Flow matching between data and where a trained flow takes them (Liu et al. 2023).

    The straight lines between a flow's own pairs cross less than those between data and any noise,
    so that the field that is learned from them turns less: a rectified flow. Pairs begin at data,
    not at noise as in the paper: the density is then learned where the data are, and the noise is
    as Gaussian as the teacher makes it. Each step solves the teacher for its batch, without
    gradient, at four evaluations a step of the solver.

    Args:
        teacher: The trained flow, which is copied and does not change. All coordinates must go
            through all of its blocks, and of those of the flow that is trained.
        steps: Runge-Kutta steps of order 4 through each of the teacher's blocks.
        coupling: "independent" alone: the teacher says which noise belongs to which image.
        times: As in :class:`FlowMatching`.
        pace: Likewise.
        weighting: "even" alone, and
        targets: "drawn" alone: what else there is counts on independent noise.

    Raises:
        TypeError: if the teacher is no flow.
        ValueError: if one of these is given, steps are no whole number, or the teacher is guided.

    Example:
        >>> import torch
        >>> from rnode_dyn import MLPField
        >>> flow = RegularizedFlow(MLPField(2))
        >>> Reflow(teacher=flow).loss(flow, torch.randn(8, 2)).value.shape
        torch.Size([])
    """

    teacher: MultiscaleFlow | RegularizedFlow = field(kw_only=True, repr=False)
    steps: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        reason = excluded_choice("reflow", self.times, self.weighting, self.targets)
        if reason is not None:
            raise ValueError(f"{reason[0]} is {getattr(self, reason[0])!r}, and {reason[1]}.")
        if self.coupling != "independent":
            raise ValueError(
                f"coupling is {self.coupling!r}, and the teacher says which noise belongs to "
                "which image: leave it out."
            )
        whole("Reflow", "steps", self.steps)
        if not isinstance(self.teacher, MultiscaleFlow | RegularizedFlow):
            raise TypeError(
                f"Reflow: teacher is a {type(self.teacher).__name__}; write a RegularizedFlow or "
                "a MultiscaleFlow that has been trained."
            )
        refuse_guided(self.teacher)
        object.__setattr__(self, "teacher", _solved_by(self.steps, self.teacher))

    def noise_for(
        self, model: MultiscaleFlow, data: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Return where the teacher takes the data, ``(batch, dimension)``."""
        teacher = as_multiscale(self.teacher, model.event_shape).to(data)
        for flow in (model, teacher):
            _check_goes_whole(flow)
        state = data.clone()
        for station in teacher.walk():
            where = station.coordinates.flatten().to(data.device)
            x, span = state[:, where].reshape(-1, *station.shape), (0.0, station.flow.end_time)
            end = station.flow.trajectory(x, span, **handed(station.flow, condition))[-1]
            state[:, where] = end.flatten(1)
        return state


def _solved_by(
    steps: int, flow: MultiscaleFlow | RegularizedFlow
) -> MultiscaleFlow | RegularizedFlow:
    """Return a copy of a flow that nobody trains, solved in so many steps a block."""
    teacher = deepcopy(flow).eval().requires_grad_(False)
    for block in [teacher] if isinstance(teacher, RegularizedFlow) else teacher.blocks:
        block.eval_solver = Solver(RK4(), FixedStep(block.end_time / steps))
    return teacher


def _check_goes_whole(flow: MultiscaleFlow) -> None:
    if len(flow.latent_shapes) > 1:
        raise ValueError(
            "the flow splits its samples, and what leaves early would depend, by the teacher's "
            "pairs, on what stays: match again flows without a split, such as scales = 1."
        )
