"""Where the log-determinant and the penalties are integrated: at the stages, or at nodes."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.flows.share import drawn_fractions
from rnode_dyn.numerics.numbers import whole

QuadratureName = Literal["stages", "gauss", "stratified"]


@dataclass(frozen=True)
class Nodes:
    """Nodes and weights of an integral from 0 to 1.

    Attributes:
        places: The nodes, in order.
        weights: Their weights, whose sum is 1.
    """

    places: tuple[float, ...]
    weights: tuple[float, ...]

    def over(self, span: tuple[float, float]) -> dict[float, float]:
        """Return the weight of each time for the integral over a span, in either direction.

        Example:
            >>> Nodes((0.25, 0.75), (0.5, 0.5)).over((2.0, 0.0))
            {1.5: -1.0, 0.5: -1.0}
        """
        start, length = span[0], span[1] - span[0]
        pairs = zip(self.places, self.weights, strict=True)
        return {start + length * place: length * weight for place, weight in pairs}


@dataclass(frozen=True)
class Quadrature:
    """Where the log-determinant and the penalties of a block are integrated.

    At the stages they are solved for beside the state, and every evaluation of the field takes the
    vector-Jacobian products. At nodes, the state is solved for alone, and the products are taken
    where its dense output passes the nodes: k evaluations with products in a solve, whatever its
    steps. The error of the trace's integral then adds to that of the solve, and adaptive steps
    control the error of the state alone.

    Args:
        rule: ``"stages"``; ``"gauss"``: the nodes of Gauss and Legendre over the block's time
            span, exact for polynomials of degree 2k − 1; ``"stratified"``: one uniformly random
            node in each of k equal parts of the span, which is unbiased. It is drawn once for a
            solve, the same for the whole batch, by the CPU's generator, where times are.
        nodes: How many, k; of nodes only.
        drawn: Nodes drawn beforehand, to use instead of new ones.

    Raises:
        ValueError: if the rule is none of these, or ``nodes`` does not go with it.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow
        >>> flow = RegularizedFlow(MLPField(2), quadrature=Quadrature("gauss", nodes=3))
        >>> flow(torch.zeros(4, 2)).log_det.shape
        torch.Size([4])
    """

    rule: QuadratureName = "stages"
    nodes: int | None = None
    drawn: Nodes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.rule not in ("stages", "gauss", "stratified"):
            raise ValueError(
                f'Quadrature: rule is {self.rule!r}; write "stages", "gauss" or "stratified".'
            )
        if not self.at_stages:
            wanted = f'how many nodes a block has, such as Quadrature("{self.rule}", nodes=4)'
            object.__setattr__(self, "nodes", whole("Quadrature", "nodes", self.nodes, wanted))
        elif self.nodes is not None:
            raise ValueError(
                f"Quadrature: nodes is {self.nodes}, and the stages are the solver's own: leave it "
                f'out, or write Quadrature("gauss", nodes={self.nodes}).'
            )

    @property
    def at_stages(self) -> bool:
        """Whether the integrals are solved for beside the state."""
        return self.rule == "stages"

    @property
    def is_random(self) -> bool:
        """Whether the nodes of every solve are drawn anew."""
        return self.rule == "stratified"

    def draw(self, like: Tensor) -> Nodes | None:
        """Return the nodes of one solve for states like these; ``None`` at the stages."""
        if self.drawn is not None or self.nodes is None:
            return self.drawn
        return _stratified(self.nodes, like) if self.is_random else _gauss(self.nodes)

    def drawn_once(self, like: Tensor) -> "Quadrature":
        """Return the same with the nodes of one solve, for every solve to come."""
        return replace(self, drawn=self.draw(like))


def _gauss(count: int) -> Nodes:
    places, weights = np.polynomial.legendre.leggauss(count)
    return Nodes(tuple(((places + 1) / 2).tolist()), tuple((weights / 2).tolist()))


def _stratified(count: int, like: Tensor) -> Nodes:
    places = (torch.arange(count, device="cpu") + drawn_fractions(like, count)) / count
    return Nodes(tuple(places.tolist()), (1 / count,) * count)


def check_quadratures(
    quadrature: object,
    penalty_quadrature: object,
    eval_quadrature: object,
    has_penalties: bool,
    end_wants_gradient: bool,
) -> None:
    """Refuse quadratures that a flow cannot have.

    Raises:
        TypeError: if one is of another kind.
        ValueError: if they do not go together, or not with the rest of the flow.
    """
    given = {
        "quadrature": quadrature,
        "penalty_quadrature": penalty_quadrature,
        "eval_quadrature": eval_quadrature,
    }
    for name, value in given.items():
        if value is not None and not isinstance(value, Quadrature):
            raise TypeError(
                f'{name} is {value!r}; write a Quadrature, such as Quadrature("gauss", nodes=4).'
            )
        if isinstance(value, Quadrature) and not value.at_stages and end_wants_gradient:
            raise ValueError(
                f"{name} is {value}, and end_time wants a gradient, with which the nodes would "
                'move: write Quadrature("stages"), or end_time=end_time.item().'
            )
    if penalty_quadrature is not None and not has_penalties:
        raise ValueError(
            f"penalty_quadrature is {penalty_quadrature}, and the flow has no regularizers to "
            "integrate: leave it out, or write regularizers=[KineticEnergy(0.01)]."
        )
    if _stages_serve_penalties_alone(quadrature, penalty_quadrature):
        raise ValueError(
            "penalty_quadrature is at the stages, where the penalties take the products that "
            f"quadrature={quadrature} is to spare: write nodes for the penalties as well, or "
            'quadrature=Quadrature("stages").'
        )


def _stages_serve_penalties_alone(of_log_det: object, of_penalties: object) -> bool:
    if not isinstance(of_log_det, Quadrature) or not isinstance(of_penalties, Quadrature):
        return False
    return of_penalties.at_stages and not of_log_det.at_stages
