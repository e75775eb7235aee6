"""What one package makes of the problems, measured in a process of its own.

    python measure.py PACKAGE KNOWN PROBLEM…

KNOWN is a file of what run.py holds to be right. It prints a line of JSON a problem. Fields are
counted in a solve of its own, which is not timed; times are those of the processor, on one thread.
"""

import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np

LATER, ENOUGH = 5, 1.0
COMPILED = {"neural": ("here", "torchdiffeq_", "torchode_")}


def numbers(found: Any) -> np.ndarray:
    """Any package's numbers, one list of them after another."""
    if isinstance(found, list | tuple):
        return np.concatenate([numbers(part).ravel() for part in found])
    return np.asarray(found.detach() if hasattr(found, "detach") else found)


def distance(found: Any, known: np.ndarray) -> float:
    """Largest error, relative to the largest number."""
    known = known.ravel()
    return float(np.abs(numbers(found).ravel() - known).max() / np.abs(known).max())


def lines(module: ModuleType, name: str) -> int:
    """Lines of a problem and of what its package needs around each, but for heads and counting."""
    helpers = [getattr(module, helper, None) for helper in ("solver", "problem", "solve")]
    own = [each for each in helpers if getattr(each, "__module__", None) == module.__name__]
    source = [inspect.getsource(each).splitlines()[1:] for each in (getattr(module, name), *own)]
    return sum(bool(line.strip()) and line.strip() != "@see" for part in source for line in part)


def evaluations(problem: Callable, package: str) -> int:
    """How often a solve evaluates the field, its gradient included."""
    calls: list[None] = []

    def note() -> None:
        calls.append(None)

    def see(field: Callable) -> Callable:
        @wraps(field)
        def seen(*args: Any) -> Any:
            if package == "diffrax_":
                import jax

                jax.debug.callback(note)
            else:
                note()
            return field(*args)

        return seen

    numbers(problem(see)()[0])
    if package == "diffrax_":
        import jax

        jax.effects_barrier()
    return len(calls)


def compiled(field: Callable) -> Callable:
    """A field compiled by torch."""
    import torch

    return torch.compile(field)


def timed(problem: Callable, see: Callable) -> tuple[dict[str, float], Any, Any]:
    """Return the seconds of the first call and of later ones, the state and the gradient."""
    begin, go = time.process_time(), problem(see)
    state, gradient = go()
    numbers(state)
    first, later = time.process_time() - begin, []
    while len(later) < LATER and sum(later) < ENOUGH:
        begin = time.process_time()
        numbers(go()[0])
        later.append(time.process_time() - begin)
    return {"first": first, "later": float(np.median(later))}, state, gradient


def measure(package: str, name: str, known: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the figures of a problem; none where the package has no way to solve it."""
    module = importlib.import_module(package)
    if not hasattr(module, name):
        return {}
    problem = getattr(module, name)
    found, state, gradient = timed(problem, lambda field: field)
    found["error"] = distance(state, known[name])
    if gradient is not None:
        found["gradient"] = distance(gradient, known[f"{name}.gradient"])
    found |= {"lines": lines(module, name), "evaluations": evaluations(problem, package)}
    if package in COMPILED.get(name, ()):
        found["compiled"] = timed(problem, compiled)[0]
    return found


def tried(*asked: Any) -> dict[str, Any]:
    """Return the figures, or why there are none."""
    try:
        return measure(*asked)
    except Exception as error:  # whatever a package may raise is its answer
        return {"failure": f"{type(error).__name__}: {error}".splitlines()[0]}


def main() -> None:
    """Measure what is asked for."""
    package, path, *names = sys.argv[1:]
    with np.load(path) as file:
        known = dict(file)
    for name in names:
        print("FOUND " + json.dumps([name, tried(package, name, known)]), flush=True)


if __name__ == "__main__":
    main()
