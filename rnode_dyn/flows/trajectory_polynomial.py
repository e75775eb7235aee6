"""How far trajectories are from polynomials in time, as a penalty."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.flows.solve_penalties import StatesPenalty
from rnode_dyn.numerics.numbers import whole


@dataclass(frozen=True)
class TrajectoryPolynomial(StatesPenalty):
    """The mean square by which states miss the polynomial in time that fits them best.

    States at both ends of the solve and at random times between them are fitted by least squares;
    the mean is over the times and the entries of a sample. The times are drawn once for a solve,
    the same for the whole batch, one in each of ``samples`` equal parts of the span. It goes with
    every sensitivity, and costs dense output at those times. Huang & Yeh, Accelerating continuous
    normalizing flow with trajectory polynomial regularization, AAAI 2021.

    Args:
        weight: λ, the penalty's factor in the loss; the penalty itself is reported unweighted.
        degree: Degree of the polynomial; 1 asks for straight lines at constant speed.
        samples: Times between the ends; left out, one more than the degree. That many as the
            degree is the least that leaves anything to miss.

    Raises:
        ValueError: if a number is no whole one, or ``samples`` is below the degree.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow
        >>> flow = RegularizedFlow(MLPField(2), regularizers=[TrajectoryPolynomial(5.0)])
        >>> flow(torch.zeros(4, 2)).penalties["trajectory_polynomial"].shape
        torch.Size([4])
    """

    weight: float = 1.0
    degree: int = 1
    samples: int = None  # type: ignore[assignment]  # known once built
    name = "trajectory_polynomial"

    def __post_init__(self) -> None:
        super().__post_init__()
        degree = whole("TrajectoryPolynomial", "degree", self.degree)
        given = degree + 1 if self.samples is None else self.samples
        samples = whole("TrajectoryPolynomial", "samples", given)
        if samples < degree:
            raise ValueError(
                f"TrajectoryPolynomial: samples is {samples}, and a polynomial of degree {degree} "
                f"goes through {samples} states and both ends: write samples={degree + 1}."
            )
        object.__setattr__(self, "degree", degree)
        object.__setattr__(self, "samples", samples)

    def of_states(self, places: Tensor, states: Tensor) -> Tensor:
        """Return the mean square of the residuals."""
        powers = (2 * places[:, None] - 1) ** torch.arange(self.degree + 1, device=places.device)
        basis = torch.linalg.qr(powers)[0]
        miss = torch.eye(len(places), dtype=places.dtype, device=places.device) - basis @ basis.T
        residuals = torch.einsum("ij,jbd->ibd", miss.to(states, non_blocking=True), states)
        return residuals.square().mean((0, 2))
