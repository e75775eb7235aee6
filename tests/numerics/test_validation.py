"""What cannot be solved is refused in a sentence that names the mend."""

import math
from collections.abc import Callable

import pytest
import torch

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    Heun,
    ODEProblem,
    Solver,
    Tsit5,
    solve,
)

X0 = torch.ones(2, 3, dtype=torch.float64)


def decay(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return -x


def problem(**changes: object) -> ODEProblem:
    given = {"field": decay, "x0": X0, "t_span": (0.0, 1.0)}
    return ODEProblem(**{**given, **changes})  # type: ignore[arg-type]


def saving(*times: float, span: tuple[float, float] = (0.0, 1.0)) -> Callable[[], object]:
    return lambda: solve(problem(t_span=span), save_at=times)


REFUSED = {
    "integer start": (lambda: problem(x0=torch.ones(2, 3, dtype=torch.int64)), TypeError, "float"),
    "list as start": (lambda: problem(x0=[1.0, 2.0]), TypeError, "as_tensor"),
    "scalar start": (lambda: problem(x0=X0[0, 0]), ValueError, "batch dimension"),
    "start of nothing": (lambda: problem(x0=X0[:0]), ValueError, "nothing to solve for"),
    "field that is none": (lambda: problem(field=None), TypeError, "field"),
    "empty span": (lambda: problem(t_span=(1.0, 1.0)), ValueError, "two different finite times"),
    "endless span": (lambda: problem(t_span=(0.0, math.inf)), ValueError, "finite"),
    "span of NaN": (lambda: problem(t_span=(math.nan, 1.0)), ValueError, "finite"),
    "span of three": (lambda: problem(t_span=(0.0, 0.5, 1.0)), ValueError, r"\(t0, t1\)"),
    "span of one": (lambda: problem(t_span=1.0), ValueError, r"\(t0, t1\)"),
    "mask of another shape": (
        lambda: problem(error_mask=torch.ones(2, dtype=torch.bool)),
        ValueError,
        "error_mask",
    ),
    "mask that is not boolean": (
        lambda: problem(error_mask=torch.ones(3)),
        (TypeError, ValueError),
        "error_mask",
    ),
    "mask that masks all": (
        lambda: problem(error_mask=torch.zeros(3, dtype=torch.bool)),
        ValueError,
        "error_mask",
    ),
    "a tensor for parameters": (
        lambda: problem(parameters=torch.ones(3, requires_grad=True)),
        TypeError,
        "parameters",
    ),
    "names for parameters": (lambda: problem(parameters=["weight"]), TypeError, "parameters"),
    "no times": (saving(), ValueError, "save_at is empty"),
    "time before": (saving(-0.1, 1.0), ValueError, "outside the time span"),
    "time after": (saving(0.5, 1.1), ValueError, "outside the time span"),
    "time that is none": (saving(math.nan), ValueError, "outside the time span"),
    "unsorted times": (saving(0.5, 0.2), ValueError, "sort it"),
    "repeated times": (saving(0.5, 0.5), ValueError, "without repeating"),
    "forward times reversed": (saving(0.2, 0.5, span=(1.0, 0.0)), ValueError, "largest first"),
    "one bare time": (
        lambda: solve(problem(), save_at=0.5),  # type: ignore[arg-type]
        (TypeError, ValueError),
        "save_at",
    ),
    "step of nought": (lambda: FixedStep(0.0), ValueError, "FixedStep: dt"),
    "negative step": (lambda: FixedStep(-0.1), ValueError, "t_span alone gives the direction"),
    "step of NaN": (lambda: FixedStep(math.nan), ValueError, "FixedStep: dt"),
    "step in words": (lambda: FixedStep("0.1"), ValueError, "FixedStep: dt"),  # type: ignore[arg-type]
    "no tolerance": (lambda: AdaptiveStep(rtol=0.0), ValueError, "AdaptiveStep: rtol"),
    "negative tolerance": (lambda: AdaptiveStep(atol=-1e-3), ValueError, "AdaptiveStep: atol"),
    "no steps": (lambda: AdaptiveStep(max_steps=0), ValueError, "max_steps"),
    "half a step": (lambda: AdaptiveStep(max_steps=2.5), ValueError, "max_steps"),  # type: ignore[arg-type]
    "negative first step": (lambda: AdaptiveStep(first_step=-1.0), ValueError, "first_step"),
    "unknown norm": (lambda: AdaptiveStep(norm="l2"), ValueError, '"rms".*"max"'),  # type: ignore[arg-type]
    "no checkpoints": (lambda: CheckpointedAdjoint(every=0), ValueError, "at least 1"),
    "half a checkpoint": (lambda: CheckpointedAdjoint(every=1.5), ValueError, "whole number"),  # type: ignore[arg-type]
    "RK4 adaptively": (lambda: Solver(RK4()), ValueError, "RK4 has no error estimate"),
    "Heun adaptively": (lambda: Solver(Heun(), AdaptiveStep()), ValueError, r"FixedStep\(0.25\)"),
    "torchdyn's RK4 adaptively": (lambda: Solver("rk4"), ValueError, "no error estimate"),  # type: ignore[arg-type]
    "unknown name": (lambda: Solver("rk5"), ValueError, "no solver named 'rk5'"),  # type: ignore[arg-type]
    "class of an algorithm": (lambda: Solver(Tsit5), TypeError, r"write Tsit5\(\)"),  # type: ignore[arg-type]
    "number as an algorithm": (lambda: Solver(5), TypeError, "algorithm is a int"),  # type: ignore[arg-type]
    "number as a stepping": (lambda: Solver(RK4(), 0.25), TypeError, r"FixedStep\(dt\)"),  # type: ignore[arg-type]
    "class of a stepping": (lambda: Solver(Tsit5(), AdaptiveStep), TypeError, "stepping is"),  # type: ignore[arg-type]
    "name of a sensitivity": (
        lambda: Solver(sensitivity="adjoint"),  # type: ignore[arg-type]
        TypeError,
        r"CheckpointedAdjoint\(\)",
    ),
    "class of a sensitivity": (
        lambda: Solver(sensitivity=DiscreteAdjoint),  # type: ignore[arg-type]
        TypeError,
        r"DiscreteAdjoint\(\)",
    ),
    "an algorithm for a solver": (
        lambda: solve(problem(), Dopri5()),  # type: ignore[arg-type]
        TypeError,
        r"Solver\(",
    ),
    "a field for a problem": (lambda: solve(decay), TypeError, "ODEProblem"),  # type: ignore[arg-type]
    "slope of another shape": (
        lambda: solve(problem(field=lambda t, x: x.sum(-1))),
        ValueError,
        r"returned shape \(2,\)",
    ),
    "slope that is none": (
        lambda: solve(problem(field=lambda t, x: None)),
        TypeError,
        "the field returned",
    ),
}


@pytest.mark.parametrize(("attempt", "kind", "sentence"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_a_sentence(
    attempt: Callable[[], object], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        attempt()


@pytest.mark.parametrize("save_at", [[0.0, 0.5, 1.0], (0.5,), torch.linspace(0, 1, 4), None])
def test_what_is_saved_is_what_was_asked(save_at: object) -> None:
    solution = solve(problem(), save_at=save_at)  # type: ignore[arg-type]
    wanted = torch.tensor([0.0, 1.0] if save_at is None else list(map(float, save_at)))  # type: ignore[call-overload]
    assert torch.allclose(solution.t, wanted.double())
    assert solution.x.shape == (len(wanted), *X0.shape)
    assert torch.allclose(solution.x, X0 * torch.exp(-solution.t)[:, None, None], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stepping", [FixedStep(0.1), AdaptiveStep(1e-3, 1e-3)], ids=repr)
def test_the_start_decides_the_dtype(
    stepping: FixedStep | AdaptiveStep, dtype: torch.dtype
) -> None:
    seen = set()

    def field(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        seen.update({t.dtype, x.dtype})
        assert t.shape == ()
        return -x

    solution = solve(problem(field=field, x0=X0.to(dtype)), Solver(Dopri5(), stepping))
    assert seen == {dtype}
    assert solution.x.dtype == solution.t.dtype == dtype


@pytest.mark.parametrize(
    ("dt", "span", "steps"),
    [
        (0.25, (0.0, 1.0), 4),
        (0.1, (0.0, 0.3), 3),
        (0.3, (0.0, 1.0), 4),
        (2.0, (0.0, 1.0), 1),
        (0.25, (1.0, 0.0), 4),
        (0.1, (-0.5, 0.2), 7),
    ],
)
def test_fixed_steps_are_equal_and_none_is_too_long(
    dt: float, span: tuple[float, float], steps: int
) -> None:
    assert solve(problem(t_span=span), Solver(RK4(), FixedStep(dt))).stats.accepted == steps


def test_equal_solvers_are_equal() -> None:
    assert Solver(RK4(), FixedStep(0.25)) == Solver(RK4(), FixedStep(0.25))
    assert Solver(RK4(), FixedStep(0.25)) != Solver(Heun(), FixedStep(0.25))
    assert len({Solver(), Solver(), Solver(sensitivity=CheckpointedAdjoint())}) == 2
