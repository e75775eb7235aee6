"""A flow as a scikit-learn density estimator."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from rnode_dyn.data.errors import DataWarning
from rnode_dyn.data.scaling import Scaling
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.divergence import ExactDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import JacobianFrobenius, KineticEnergy
from rnode_dyn.flows.standardize import Standardize
from rnode_dyn.numerics.algorithms.classic import RK4
from rnode_dyn.numerics.numbers import as_number, whole
from rnode_dyn.numerics.seeding import seeded
from rnode_dyn.numerics.solve import Solver
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.likelihood import Likelihood

_CPU = torch.device("cpu")
_AT_ONCE = 1000


class FlowDensity(DensityMixin, BaseEstimator):
    """A continuous normalizing flow behind scikit-learn's interface, for tables.

    Columns are standardised first, within the flow: densities are those of the data's own units.
    A column that is constant has none, and is warned of. The trace is exact, so that scores have
    no noise.

    Args:
        hidden: Widths of the field's hidden layers.
        objective: ``"flow-matching"``, which solves nothing, or ``"likelihood"``, with the
            penalties of RNODE.
        epochs: Passes over the data. A table of a few hundred rows makes a step or two in each,
            and takes about a thousand of them.
        batch_size: Rows in a step.
        learning_rate: Adam's, which falls to 0 along a cosine.
        weight_decay: Decoupled weight decay: more of it for few rows of many columns.
        regularization: Weight of both penalties, kinetic energy and Jacobian norm, in
            ``"likelihood"``.
        steps: Steps of the solver, classic Runge-Kutta of order 4.
        random_state: Seed, or a NumPy random state.

    Attributes:
        flow_: The trained flow, a :class:`~rnode_dyn.MultiscaleFlow`.
        n_features_in_: Columns.
        loss_: The loss of the last epoch, a mean over its steps.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(200, 2))
        >>> density = FlowDensity(hidden=(16,), epochs=5, random_state=0).fit(rows)
        >>> density.score_samples(rows).shape, density.sample(3, random_state=1).shape
        ((200,), (3, 2))
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        objective: Literal["flow-matching", "likelihood"] = "flow-matching",
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        regularization: float = 0.01,
        steps: int = 8,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.objective = objective
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.regularization = regularization
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows ``(n, columns)`` of floats, two or more; ``y`` is not looked at.

        Where it fails, the estimator is not fitted, even if it was before.

        Raises:
            TypeError: if ``hidden`` is no list of widths.
            ValueError: if a parameter is none, or the loss is not finite any more.
        """
        self._check_parameters()
        for name in ("flow_", "loss_"):
            vars(self).pop(name, None)
        rows = np.asarray(validate_data(self, X, dtype=np.float64, ensure_min_samples=2, copy=True))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(_CPU, seed), torch.enable_grad():
            flow = self._built(rows)
            loss = self._trained(flow, torch.from_numpy(rows))
        self.flow_, self.loss_ = flow.eval(), loss
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a flow is there; that the columns are known does not say so."""
        return hasattr(self, "flow_")

    def _check_parameters(self) -> None:
        if self.objective not in ("flow-matching", "likelihood"):
            raise ValueError(
                f'objective is {self.objective!r}; write "flow-matching" or "likelihood".'
            )
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Iterable):
            raise TypeError(f"hidden is {self.hidden!r}; write a width a layer, such as (64, 64).")
        for name in ("epochs", "batch_size", "steps"):
            whole("FlowDensity", name, getattr(self, name))
        for width in self.hidden:
            whole("FlowDensity", "hidden", width, "whole numbers of 1 or more, such as (64, 64)")
        rate = as_number(self.learning_rate)
        if rate is None or not 0 < rate < math.inf:
            raise ValueError(
                f"learning_rate is {self.learning_rate!r}; write a number above 0, such as 3e-3."
            )

    def _built(self, rows: np.ndarray) -> MultiscaleFlow:
        scaling = Scaling.of(rows)
        if scaling.constant:
            numbers = ", ".join(map(str, scaling.constant))
            warnings.warn(
                f"every row has the same value in column {numbers} (counted from 0), and a "
                "constant has no density: scores grow without bound as training goes on, and "
                "compare with no other. Leave it out.",
                DataWarning,
                stacklevel=3,
            )
        block = RegularizedFlow(
            MLPField(rows.shape[1], tuple(self.hidden)),
            Solver(RK4(), FixedStep(1 / self.steps)),
            ExactDivergence(),
            [KineticEnergy(self.regularization), JacobianFrobenius(self.regularization)],
        )
        units = Standardize(scaling.shift, scaling.scale, scaling.rounding)
        return MultiscaleFlow((rows.shape[1],), [Scale([block])], units)

    def _trained(self, flow: MultiscaleFlow, rows: torch.Tensor) -> float:
        """Train the flow; return the last epoch's loss."""
        objective = FlowMatching() if self.objective == "flow-matching" else Likelihood()
        optimizer = torch.optim.AdamW(
            flow.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        batches = math.ceil(len(rows) / self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * batches)
        losses: list[float] = []
        for _ in range(self.epochs):
            losses = []
            for chosen in torch.randperm(len(rows)).split(self.batch_size):
                optimizer.zero_grad()
                loss = objective.loss(flow, rows[chosen]).value
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss is {losses[-1]}: training with learning_rate={self.learning_rate!r} "
                    "diverges; write a smaller one."
                )
        return float(np.mean(losses))

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log p of each row, in nats, ``(n,)``."""
        check_is_fitted(self)
        table = np.asarray(validate_data(self, X, dtype=np.float64, reset=False, copy=True))
        distribution = FlowDistribution(self.flow_, self.flow_.event_shape)
        rows = torch.from_numpy(table).split(_AT_ONCE)
        with torch.no_grad():
            scores = [distribution.log_prob(part).double() for part in rows]
        return torch.cat(scores).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # type: ignore[override]
        """Return the mean of log p over the rows, which a search makes large."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows ``(n_samples, columns)`` from the density, in the data's units."""
        check_is_fitted(self)
        n_samples = whole("FlowDensity", "n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        with seeded(_CPU, seed):
            drawn = FlowDistribution(self.flow_, self.flow_.event_shape).sample((n_samples,))
        return drawn.double().numpy()
