"""Averaged weights: what is learned is averaged, and what is constant stays as it is."""

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from rnode_dyn.training.loop.averaging import MovingAverage


class WithConstants(LightningModule):
    """A weight, a statistic, and constants of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("statistic", torch.tensor([0.0]))
        self.register_buffer("frequencies", torch.linspace(0, 64, 1000), persistent=False)
        self.register_buffer("order", torch.arange(999).flip(0))
        self.register_buffer("hidden", torch.tensor([True, False]))
        self.register_buffer("never", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("phases", torch.polar(torch.ones(5), torch.arange(5.0)))
        self.register_buffer("steps", torch.tensor(0))


Trained = tuple[WithConstants, WithConstants, list[float]]
CONSTANTS = ("frequencies", "order", "hidden", "never", "phases")


def trained(callback: MovingAverage) -> Trained:
    """A module that was trained for a hundred steps, its average, and the weights it had."""
    module = WithConstants()
    callback.setup(None, module, "fit")  # type: ignore[arg-type]
    weights = []
    for _ in range(100):
        with torch.no_grad():
            module.weight.add_(1.0)
            module.statistic += 2.0
            module.steps += 1
        weights.append(module.weight.item())
        callback._average_model.update_parameters(module)  # type: ignore[union-attr]
    return module, callback._average_model.module, weights  # type: ignore[union-attr]


@pytest.fixture
def averaged() -> Trained:
    return trained(MovingAverage(0.9))


def test_what_changes_is_averaged(averaged: Trained):
    _, average, weights = averaged
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.9 * expected + 0.1 * weight
    assert float(average.weight) == pytest.approx(expected, rel=1e-5)
    assert float(average.statistic) == pytest.approx(2 * (expected - 1), rel=1e-5)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_a_short_training_is_no_mean_with_its_beginning(decay: float) -> None:
    _, average, weights = trained(MovingAverage(decay, warm_up=True))
    shares = [1.0, *(max(1 - decay, 9 / (10 + step)) for step in range(1, 100))]
    expected = 0.0
    for share, weight in zip(shares, weights, strict=True):
        expected += share * (weight - expected)
    assert float(average.weight) == pytest.approx(expected, rel=1e-5)
    assert float(average.weight) > 88  # of 101; without a warm-up 0.999 leaves 7
    assert torch.equal(average.frequencies, WithConstants().frequencies)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_stay_to_the_last_bit(name: str, averaged: Trained) -> None:
    _, average, _ = averaged
    kept: Tensor = getattr(average, name)
    assert torch.equal(kept, getattr(WithConstants(), name))


def test_whole_numbers_are_those_of_the_trained(
    averaged: Trained,
) -> None:
    assert int(averaged[1].steps) == 100


@pytest.mark.parametrize("warm_up", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.bfloat16], ids=str)
def test_shares_are_as_precise_as_weights(dtype: torch.dtype, warm_up: bool) -> None:
    module = WithConstants()
    module.weight = nn.Parameter(torch.ones(1, dtype=dtype))
    callback = MovingAverage(0.999, warm_up=warm_up)
    callback.setup(None, module, "fit")  # type: ignore[arg-type]
    average = callback._average_model
    assert average is not None
    average.update_parameters(module)
    average.n_averaged.fill_(100_000)
    with torch.no_grad():
        module.weight.fill_(2.0)
    average.update_parameters(module)
    found = average.module.weight.detach()
    expected = torch.tensor([1.001], dtype=torch.float64)
    assert torch.equal(found, expected.to(dtype))


def test_a_word_is_no_warm_up() -> None:
    with pytest.raises(TypeError, match="MovingAverage: warm_up"):
        MovingAverage(0.9, warm_up="false")  # type: ignore[arg-type]
