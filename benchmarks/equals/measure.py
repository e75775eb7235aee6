"""What one package makes of one problem, measured in a process of its own.

    python measure.py PACKAGE PROBLEM KNOWN [--compiled]

KNOWN is a file of what run.py holds to be right.
It prints a line of JSON. Fields are counted in a solve of its own, which is not timed; times are
those of the processor, on one thread.
"""

import argparse
import importlib
import inspect
import json
import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np

LATER = 5


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


def measure(package: str, name: str, known: dict, compiles: bool) -> dict[str, Any]:
    """Return the figures."""
    module = importlib.import_module(package)
    if not hasattr(module, name):
        return {}
    problem = getattr(module, name)
    go = problem(compiled if compiles else lambda field: field)
    begin = time.process_time()
    state, gradient = go()
    numbers(state)
    first, later = time.process_time() - begin, []
    for _ in range(LATER):
        begin = time.process_time()
        numbers(go()[0])
        later.append(time.process_time() - begin)
    found = {
        "first": first,
        "later": float(np.median(later)),
        "error": distance(state, known[name]),
    }
    if gradient is not None:
        found["gradient"] = distance(gradient, known[f"{name}.gradient"])
    if not compiles:
        found |= {"lines": lines(module, name), "evaluations": evaluations(problem, package)}
    return found


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("problem")
    parser.add_argument("known")
    parser.add_argument("--compiled", action="store_true")
    arguments = parser.parse_args()
    with np.load(arguments.known) as file:
        known = dict(file)
    found = measure(arguments.package, arguments.problem, known, arguments.compiled)
    print("FOUND " + json.dumps(found))


if __name__ == "__main__":
    main()
