"""Blocks of the same make are counted once, and none is taken for another."""

from collections.abc import Sequence

import pytest
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    ConvField,
    FixedStep,
    JacobianFrobenius,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.costs import evaluations
from rnode_dyn.costs.cost import training_cost

WIDTH = 3


class Repeated(nn.Module):
    """A linear map several times over, which no shape of a tensor shows."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.layer = times, nn.Linear(WIDTH, WIDTH)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.layer(x)
        return x


def flops(fields: Sequence[nn.Module], shape: Sequence[int] = (WIDTH,), **parts: object) -> int:
    solver = Solver(RK4(), FixedStep(1.0))
    blocks = [RegularizedFlow(field, solver, **parts) for field in fields]  # type: ignore[arg-type]
    return training_cost(MultiscaleFlow(shape, [Scale(blocks)])).forward_flops


COUNTED: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_counted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listed(evaluations._OnShapes):
        def count(self, with_penalties: bool | None) -> evaluations.EvaluationCost:
            COUNTED.append(self)
            return super().count(with_penalties)

    COUNTED.clear()
    evaluations._count_once.cache_clear()
    monkeypatch.setattr(evaluations, "_OnShapes", Listed)


def counted() -> int:
    return len(COUNTED)


def test_equal_blocks_are_counted_once() -> None:
    whole = flops([ConvField(2), ConvField(2)], (2, 4, 4))
    assert counted() == 1
    assert whole == 2 * flops([ConvField(2)], (2, 4, 4))
    assert counted() == 1


@pytest.mark.parametrize(
    "other",
    [
        {"fields": [MLPField(WIDTH, (5,))]},
        {"fields": [MLPField(WIDTH, (4,), activation="tanh")]},
        {"fields": [MLPField(WIDTH, (4,))], "regularizers": [JacobianFrobenius(0.1)]},
        {"fields": [MLPField((1, WIDTH), (4,))], "shape": (1, WIDTH)},
    ],
)
def test_other_blocks_are_counted_for_themselves(other: dict) -> None:
    flops([MLPField(WIDTH, (4,))])
    flops(**other)
    assert counted() == 2


def test_a_users_fields_are_never_taken_for_each_other() -> None:
    once, thrice = flops([Repeated(1)]), flops([Repeated(3)])
    assert thrice == 3 * once
    before = counted()
    flops([Repeated(3)])  # a notebook may have defined the class again meanwhile
    assert counted() == before + 1
    assert evaluations._count_once.cache_info().currsize == 0  # nor kept


def test_what_cannot_be_written_down_is_counted() -> None:
    field = Repeated(1)
    field.activation = lambda x: x  # type: ignore[assignment]
    assert flops([field]) == flops([Repeated(1)])
