"""Fields that draw random numbers, or that change themselves as they are evaluated."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn import FrozenNoise
from tests.contract.fields.case import (
    CHANGING,
    OWN_BACKWARD,
    Case,
    Made,
    Refused,
    of_module,
    randomized,
    start,
)
from tests.contract.fields.spellings import Bend, TimeFirst

# With other noise at every evaluation an error is never small, however short the step.
LOOSE = 0.3


class Layers(nn.Module):
    """A layer of the user's between two linear ones."""

    def __init__(self, between: nn.Module, first: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(2, 4) if first is None else first
        self.between, self.last = between, nn.Linear(4, 2)
        randomized(self)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.between(self.first(x)) + t))


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


class LateNoise(TimeFirst):
    """Draws only after a while: not at the evaluation that one could look at beforehand."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        noise = 0.0 if t < 0.1 else 0.1 * torch.randn_like(x)
        return self.at(t, x) + noise


class Counter(TimeFirst):
    """Counts its evaluations in a buffer; ``ages`` lets the value depend on the count."""

    def __init__(self, ages: bool) -> None:
        super().__init__()
        self.ages = ages
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.count += 1
        return self.at(t, x) * (1 + 1e-3 * self.count.clone() if self.ages else 1)


class NumberCounter(TimeFirst):
    """Counts in a number of Python's, which its value does not depend on."""

    calls = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.at(t, x)


class Reassigned(TimeFirst):
    """Puts another tensor in its buffer's place at every evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1
        return self.at(t, x) + self.mean


class Cached(TimeFirst):
    """Keeps its last state, which nobody reads."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.last = x
        return self.at(t, x)


class FromElsewhere(Bend):
    """Draws from NumPy or from Python."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.at(t, x) * (1 + 0.01 * self.draw())


class Normed(nn.Module):
    """A norm over images between two convolutions."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
        randomized(self)
        self.norm = norm.double()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x)) + t))


def _dropout() -> nn.Module:
    return nn.Dropout(0.3)


def _spectral(train: bool) -> Made:
    module = Layers(nn.Identity(), nn.utils.spectral_norm(nn.Linear(2, 4).double()))
    for _ in range(20):  # towards the largest singular value
        module(torch.zeros((), dtype=torch.float64), start())
    return of_module(module.train(train))


def _vectors(norm: nn.Module, train: bool = True) -> Made:
    return of_module(Layers(norm).train(train))


def _images(norm: nn.Module, train: bool = True) -> Made:
    return of_module(Normed(norm).train(train), x=start(1, 2, 2))


def _frozen_noise() -> Made:
    module = Layers(_dropout())
    field = FrozenNoise(module, seed=5)
    return Made(field, field, start(), dict(module.named_parameters()), module)


def _functional() -> Made:
    module = TimeFirst()

    def field(t: Tensor, x: Tensor) -> Tensor:
        return F.dropout(module.at(t, x), 0.3)

    return Made(field, field, start(), dict(module.named_parameters()), module)


def _numpy() -> Made:
    np.random.seed(0)  # noqa: NPY002  # what such fields draw from
    return of_module(FromElsewhere(lambda: float(np.random.rand())))  # noqa: NPY002


def _python() -> Made:
    random.seed(0)
    return of_module(FromElsewhere(random.random))


def _batch_alone() -> nn.Module:
    return nn.BatchNorm1d(4, track_running_stats=False)


def _cumulative() -> nn.Module:
    return nn.BatchNorm2d(2, momentum=None)  # type: ignore[arg-type]  # what torch documents


def _instance() -> nn.Module:
    return nn.InstanceNorm2d(2, affine=True, track_running_stats=True)


FROM_ELSEWHERE = Refused(by=OWN_BACKWARD, times=True)
# Torch has the third derivatives of these wrong.
NORM, TRAINED_NORM = Refused(along=True), replace(CHANGING, along=True)

CHANGING_FIELDS = (
    Case("dropout, training", lambda: of_module(Layers(_dropout())), CHANGING, LOOSE),
    Case("dropout, evaluation", lambda: of_module(Layers(_dropout()).eval())),
    Case("dropout within `FrozenNoise`", _frozen_noise),
    Case("`F.dropout` in a function", _functional, CHANGING, LOOSE),
    Case("alpha dropout, training", lambda: of_module(Layers(nn.AlphaDropout(0.3))), CHANGING, 1.0),
    Case("`torch.randn_like`", lambda: of_module(Layers(Noise())), CHANGING, LOOSE),
    Case("noise after a while", lambda: of_module(LateNoise()), FROM_ELSEWHERE, LOOSE),
    Case("noise from NumPy", _numpy, FROM_ELSEWHERE, 1e-3),
    Case("noise from Python's `random`", _python, FROM_ELSEWHERE, 1e-3),
    Case("legacy `spectral_norm`, training", lambda: _spectral(True), CHANGING, 1e-3),
    Case("legacy `spectral_norm`, evaluation", lambda: _spectral(False)),
    Case("`BatchNorm1d`, training", lambda: _vectors(nn.BatchNorm1d(4)), TRAINED_NORM),
    Case("`BatchNorm1d`, evaluation", lambda: _vectors(nn.BatchNorm1d(4), train=False)),
    Case("`BatchNorm1d` without statistics", lambda: _vectors(_batch_alone()), NORM),
    Case("`BatchNorm2d`, training", lambda: _images(nn.BatchNorm2d(2)), TRAINED_NORM),
    Case("`BatchNorm2d` with a mean of all", lambda: _images(_cumulative()), TRAINED_NORM),
    Case("`InstanceNorm2d` with statistics", lambda: _images(_instance()), TRAINED_NORM),
    Case("the same in evaluation", lambda: _images(_instance(), train=False)),
    Case("`LayerNorm`", lambda: _vectors(nn.LayerNorm(4)), NORM),
    Case("`GroupNorm`", lambda: _images(nn.GroupNorm(2, 2))),
    Case("counter in a buffer", lambda: of_module(Counter(ages=False)), CHANGING),
    Case("counter that the value depends on", lambda: of_module(Counter(True)), CHANGING, 1e-3),
    Case("counter in a number", lambda: of_module(NumberCounter())),
    Case(
        "buffer replaced at every evaluation", lambda: of_module(Reassigned()), FROM_ELSEWHERE, 1e-3
    ),
    Case("last state kept", lambda: of_module(Cached())),
)
