"""A flow as a scikit-learn density estimator."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from rnode_dyn.data.scaling import Scaling
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.divergence import ExactDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import JacobianFrobenius, KineticEnergy
from rnode_dyn.flows.standardize import Standardize
from rnode_dyn.numerics.algorithms.classic import RK4
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
    A column that is constant has none. The trace is exact, so that scores have no noise.

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
        """Train on rows ``(n, columns)`` of floats, two or more; ``y`` is not looked at."""
        if self.objective not in ("flow-matching", "likelihood"):
            raise ValueError(
                f'objective is {self.objective!r}; write "flow-matching" or "likelihood".'
            )
        rows = np.asarray(validate_data(self, X, dtype=np.float64, ensure_min_samples=2, copy=True))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(_CPU, seed):
            self.flow_ = self._built(rows)
            self.loss_ = self._trained(torch.from_numpy(rows))
        self.flow_.eval()
        return self

    def _built(self, rows: np.ndarray) -> MultiscaleFlow:
        scaling = Scaling.of(rows)
        block = RegularizedFlow(
            MLPField(rows.shape[1], tuple(self.hidden)),
            Solver(RK4(), FixedStep(1 / self.steps)),
            ExactDivergence(),
            [KineticEnergy(self.regularization), JacobianFrobenius(self.regularization)],
        )
        units = Standardize(scaling.shift, scaling.scale, scaling.rounding)
        return MultiscaleFlow((rows.shape[1],), [Scale([block])], units)

    def _trained(self, rows: torch.Tensor) -> float:
        """Train the flow; return the last epoch's loss."""
        objective = FlowMatching() if self.objective == "flow-matching" else Likelihood()
        optimizer = torch.optim.AdamW(
            self.flow_.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        batches = math.ceil(len(rows) / self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * batches)
        losses: list[float] = []
        for _ in range(self.epochs):
            losses = []
            for chosen in torch.randperm(len(rows)).split(self.batch_size):
                optimizer.zero_grad()
                loss = objective.loss(self.flow_, rows[chosen]).value
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
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
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        with seeded(_CPU, seed):
            drawn = FlowDistribution(self.flow_, self.flow_.event_shape).sample((n_samples,))
        return drawn.double().numpy()
