"""What is heard of a solve while it runs, and what is left of one that was stopped."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from rich.console import Console
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    FixedStep,
    MaxSecondsError,
    ODEProblem,
    Solution,
    Solver,
    SolverError,
    SolveStats,
    Step,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.stepping.progress import SolveProgress
from tests.numerics.cases import FORWARD, REVERSED, SENSITIVITIES, Span, float64

EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
STEPPINGS = [FixedStep(0.125), AdaptiveStep(1e-4, 1e-4, first_step=0.125, max_steps=60)]
EACH_STEPPING = pytest.mark.parametrize("stepping", STEPPINGS, ids=["fixed", "adaptive"])
BY_SAMPLE = Solver(stepping=AdaptiveStep(per_sample=True))
EACH_WAY = pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])


class StopError(Exception):
    """Raised by somebody who has seen enough."""


def fading(t: Tensor, x: Tensor) -> Tensor:
    return -x * torch.cos(3 * t)


def start() -> Tensor:
    return float64([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()


def breaking(at: float, what: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A field that does something else past a time."""
    return lambda t, x: what(x) if t > at else fading(t, x)


def so_far_of(error: BaseException) -> Solution:
    return vars(error)["solution"]


def interrupt(x: Tensor) -> Tensor:
    raise KeyboardInterrupt


def fail(x: Tensor) -> Tensor:
    raise StopError


@EACH_SENSITIVITY
@EACH_STEPPING
@EACH_WAY
def test_a_callback_sees_each_accepted_step(
    span: Span, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    """Those of the forward solve, and no step of the gradient's."""
    seen: list[Step] = []
    problem = ODEProblem(fading, start(), span)
    solution = solve(problem, Solver(Tsit5(), stepping, sensitivity), callback=seen.append)
    solution.x[-1].sum().backward()
    solution(0.5)
    assert [step.t for step in seen] == [step.t for step in solution.steps if step.accepted]
    assert torch.equal(seen[0].x0, problem.x0)
    assert torch.equal(seen[-1].x1, solution.x[-1])
    assert seen[-1].t1 == span[1]


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
def test_listening_changes_no_number(
    sensitivity: Sensitivity, capsys: pytest.CaptureFixture
) -> None:
    solver = Solver(Tsit5(), AdaptiveStep(), sensitivity)
    silent, heard = (
        solve(ODEProblem(fading, start(), FORWARD), solver, **more)
        for more in ({}, {"progress": True, "callback": lambda step: None})
    )
    assert torch.equal(silent.x, heard.x)
    assert silent.stats == heard.stats
    written = capsys.readouterr()
    assert written.out == ""
    assert "100%" in written.err
    assert f"{heard.stats.nfe} evaluations" in written.err


def test_progress_tells_share_steps_and_evaluations() -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    stats = SolveStats(nfe=12, accepted=1, rejected=1)
    x = torch.zeros(1, 1)
    with SolveProgress((2.0, 0.0), stats, console) as bar:
        bar(Step(2.0, -0.5, x, x, ()))
    text = file.getvalue()
    assert all(part in text for part in ("t = 1.5", "25%", "2 steps, 12 evaluations"))


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.parametrize(("what", "kind"), [(interrupt, KeyboardInterrupt), (fail, StopError)])
def test_what_ends_a_solve_has_the_solution_so_far(
    what: Callable[[Tensor], Tensor],
    kind: type[BaseException],
    stepping: FixedStep | AdaptiveStep,
    sensitivity: Sensitivity,
) -> None:
    solver = Solver(Tsit5(), stepping, sensitivity)
    with pytest.raises(kind) as caught:
        solve(ODEProblem(breaking(0.7, what), start(), FORWARD), solver, save_at=[0.1, 0.4, 1.0])
    so_far = so_far_of(caught.value)
    whole = solve(ODEProblem(fading, start(), FORWARD), solver, save_at=[0.1, 0.4, 1.0])
    assert torch.equal(so_far.x[:2], whole.x[:2])
    assert so_far.t[:2].tolist() == [0.1, 0.4]
    assert 0.5 <= float(so_far.t[-1]) <= 0.7
    assert not so_far.x.requires_grad
    assert len(so_far.steps) == so_far.stats.accepted + so_far.stats.rejected > 0


@EACH_SENSITIVITY
@EACH_STEPPING
@EACH_WAY
def test_solver_errors_have_it_too(
    span: Span, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    forwards = span == FORWARD
    broken = breaking(0.7, lambda x: x * torch.nan)
    field = broken if forwards else lambda t, x: broken(1 - t, x)
    with pytest.raises(SolverError) as caught:
        solve(ODEProblem(field, start(), span), Solver(Dopri5(), stepping, sensitivity))
    error = caught.value
    assert error.solution.t[0] == span[0]
    assert bool(error.solution.x.isfinite().all())
    if isinstance(sensitivity, DiscreteAdjoint):
        assert float(error.solution.t[-1]) == error.t
        middle = (span[0] + error.t) / 2
        whole = solve(ODEProblem(fading, start(), FORWARD), Solver(Dopri5(), STEPPINGS[0]))
        if forwards:
            assert torch.allclose(error.solution(middle), whole(middle), atol=1e-3)
        with pytest.raises(ValueError, match="was solved from"):
            error.solution(span[1])


@EACH_SENSITIVITY
def test_a_solve_may_go_on_from_there(sensitivity: Sensitivity) -> None:
    solver = Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8, max_steps=5), sensitivity)
    problem = ODEProblem(fading, start(), FORWARD)
    with pytest.raises(SolverError) as caught, torch.no_grad():
        solve(problem, solver)
    so_far = caught.value.solution
    t, x = float(so_far.t[-1]), so_far.x[-1]
    assert t == caught.value.t
    end = solve(ODEProblem(fading, x, (t, 1.0)), Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8))).x[-1]
    whole = solve(problem, Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8))).x[-1]
    assert torch.allclose(end, whole, atol=1e-7)


def test_a_callback_may_end_the_solve() -> None:
    def stop(step: Step) -> None:
        if step.t1 >= 0.5:
            raise StopError

    with pytest.raises(StopError) as caught:
        solve(
            ODEProblem(fading, start(), FORWARD), Solver(Dopri8(), FixedStep(0.25)), callback=stop
        )
    so_far = so_far_of(caught.value)
    assert so_far.t.tolist() == [0.0, 0.5]
    assert so_far(0.3).shape == (2, 2)


@EACH_SENSITIVITY
@pytest.mark.parametrize(
    "stepping", [FixedStep(0.1, max_seconds=1e-9), AdaptiveStep(max_seconds=1e-9)], ids=repr
)
def test_no_time_at_all(stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity) -> None:
    with pytest.raises(MaxSecondsError, match="1e-09 seconds") as caught:
        solve(ODEProblem(fading, start(), FORWARD), Solver(Tsit5(), stepping, sensitivity))
    assert (caught.value.t, caught.value.steps) == (0.0, 0)
    assert torch.equal(caught.value.solution.x[-1], start())


@pytest.mark.parametrize("remake", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_crosses_processes_without_its_solution(
    remake: Callable[[SolverError], SolverError],
) -> None:
    with pytest.raises(SolverError) as caught:
        solve(ODEProblem(lambda t, x: x * torch.nan, start(), FORWARD))
    assert str(remake(caught.value)) == str(caught.value)
    assert remake(caught.value).solution is None


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda p: solve(p, callback=3), TypeError, "callback"),  # type: ignore[arg-type]
        (lambda p: solve(p, progress="yes"), TypeError, "progress"),  # type: ignore[arg-type]
        (lambda p: solve(p, BY_SAMPLE, callback=print), ValueError, "per_sample"),
        (lambda p: solve(p, BY_SAMPLE, progress=True), ValueError, "per_sample"),
        (lambda p: AdaptiveStep(max_seconds=0), ValueError, "max_seconds"),
        (lambda p: FixedStep(0.1, max_seconds="soon"), ValueError, "max_seconds"),  # type: ignore[arg-type]
    ],
)
def test_refused(make: Callable[[ODEProblem], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make(ODEProblem(fading, start(), FORWARD))
