"""The benchmark's textbook computes what we compute, and what each side does is counted."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

BLOCK, MLP = "1×28×28 block, DiscreteAdjoint(), batch 8", "MLP 64-D, batch 32"
CONDITIONAL = "MLP 64-D, 16 numbers of a condition, batch 256"
QUICK = [BLOCK, MLP, CONDITIONAL, "2-D solve, dopri5 at 1e-5, batch 256"]
RULE = 16  # evaluations of four steps of four stages


@pytest.fixture(name="steps")
def _steps(benchmark_named: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_named("steps")


def row_of(steps: ModuleType, name: str):
    return next(row for row in steps.ROWS if row.name == name)


@pytest.mark.parametrize("name", QUICK)
def test_both_sides_compute_the_same(steps: ModuleType, name: str) -> None:
    row = row_of(steps, name)
    assert steps.difference(row) <= row.agreement


def test_evaluations_are_those_of_the_rule(steps: ModuleType) -> None:
    """The adjoint evaluates the field again, and once more at its start and end."""
    pair = row_of(steps, MLP).build(torch.float32, 2)
    ours, textbook = pair.ours().evaluations, pair.textbook().evaluations
    assert ours == RULE
    assert 2 * RULE <= textbook <= 2 * RULE + 2


def test_operations_are_three_quarters_of_the_textbooks(steps: ModuleType) -> None:
    """Six passes of a convolution an evaluation instead of eight, and no channel for the time."""
    row = row_of(steps, MLP)
    ratio = steps.operations(row, "ours") / steps.operations(row, "textbook")
    assert ratio == pytest.approx(0.75, abs=0.03)


def test_what_disagrees_is_not_timed(
    steps: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["steps.py", "--only", "2-D"])
    monkeypatch.setattr(steps, "difference", lambda row: float("nan"))
    with pytest.raises(SystemExit) as left:
        steps.main()
    assert left.value.code == 1
    assert "differ by nan: it is not timed" in capsys.readouterr().out
