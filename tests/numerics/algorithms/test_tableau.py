"""The coefficients obey the equations that make them a method of their order."""

import math
from collections.abc import Sequence
from functools import cache

import pytest

from rnode_dyn import (
    BS5,
    SSPRK33,
    SSPRK54,
    AdaptiveHeun,
    Bosh3,
    Dopri5,
    Dopri8,
    Euler,
    Ralston2,
    Ralston3,
    Ralston4,
    Tsit5,
    Vern7,
    Vern9,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from tests.numerics.cases import ALGORITHMS, EMBEDDED

DENSE_ORDERS = {"Dopri5": 4, "Tsit5": 4, "BS5": 5, "Vern7": 7, "Vern9": 9}
INTERPOLATED = [a for a in ALGORITHMS if a.tableau.interpolant is not None]


def dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(w * v for w, v in zip(weights, values, strict=True))


# A rooted tree is the sorted tuple of its root's branches, themselves rooted trees.
Tree = tuple["Tree", ...]


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """Every rooted tree of this many nodes."""
    return forests(order - 1, order - 1)


@cache
def forests(nodes: int, largest: int) -> tuple[Tree, ...]:
    """Every multiset of trees with this many nodes in all, none larger than ``largest``."""
    if nodes == 0:
        return ((),)
    found = {
        tuple(sorted((*rest, tree)))
        for size in range(1, min(nodes, largest) + 1)
        for tree in trees(size)
        for rest in forests(nodes - size, size)
    }
    return tuple(sorted(found))


def size(tree: Tree) -> int:
    return 1 + sum(map(size, tree))


def density(tree: Tree) -> int:
    return size(tree) * math.prod(map(density, tree))


def elementary_weights(tableau: ButcherTableau, tree: Tree) -> list[float]:
    """The tree's weight at every stage: the product over branches of a · (theirs)."""
    rows = ((), *tableau.a, *tableau.extra_a)
    branches = [elementary_weights(tableau, branch) for branch in tree]
    return [math.prod(dot(row, branch[: len(row)]) for branch in branches) for row in rows]


def defect(tableau: ButcherTableau, weights: Sequence[float], order: int) -> float:
    """How far ``weights`` miss the worst condition of this order: b · Φ(tree) = 1 / γ(tree).

    Hairer, Nørsett & Wanner, Solving ODEs I, theorem II.2.13.
    """
    return max(
        abs(dot(weights, elementary_weights(tableau, tree)[: len(weights)]) - 1 / density(tree))
        for tree in trees(order)
    )


def test_the_trees_are_all_there() -> None:
    assert [len(trees(order)) for order in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_stage_lies_at_its_time(algorithm: ExplicitRungeKutta) -> None:
    tableau = algorithm.tableau
    assert [len(row) for row in tableau.a] == list(range(1, tableau.stages))
    assert [math.fsum(row) for row in tableau.a] == pytest.approx(tableau.c[1:], abs=2e-14)
    assert [math.fsum(row) for row in tableau.extra_a] == pytest.approx(tableau.extra_c, abs=1e-14)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_the_solution_has_its_order_and_no_more(algorithm: ExplicitRungeKutta) -> None:
    tableau, order = algorithm.tableau, algorithm.order
    assert max(defect(tableau, tableau.b, q) for q in range(1, order + 1)) < 1e-13
    assert defect(tableau, tableau.b, order + 1) > 1e-6


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_the_embedded_solution_has_its_order_and_no_more(algorithm: ExplicitRungeKutta) -> None:
    """An estimate of the same order as the solution would estimate nothing."""
    tableau, order = algorithm.tableau, algorithm.embedded_order
    assert tableau.b_embedded is not None
    assert max(defect(tableau, tableau.b_embedded, q) for q in range(1, order + 1)) < 1e-13
    assert defect(tableau, tableau.b_embedded, order + 1) > 1e-6


@pytest.mark.parametrize("algorithm", INTERPOLATED, ids=str)
def test_the_interpolant_joins_the_ends_smoothly(algorithm: ExplicitRungeKutta) -> None:
    tableau = algorithm.tableau
    assert tableau.interpolant is not None
    rows = (*tableau.a, *tableau.extra_a)
    extra = [0.0] * len(tableau.extra_a)
    end = tableau.b[:-1] if tableau.first_same_as_last else tableau.b
    at_end = [float(row == end) for row in ((), *rows)]
    # Coefficients of a thousand and more cancel to leave those of order one.
    largest = max(abs(c) for row in tableau.interpolant for c in row)
    assert tableau.weights_at(0.0) == pytest.approx([0.0] * tableau.stages + extra)
    assert tableau.weights_at(1.0) == pytest.approx([*tableau.b, *extra], abs=1e-14 * largest)
    first = [row[0] for row in tableau.interpolant]
    last = [dot(row, range(1, len(row) + 1)) for row in tableau.interpolant]
    assert first == pytest.approx([1.0] + [0.0] * (len(first) - 1), abs=1e-13)
    assert sum(at_end) == 1.0
    assert last == pytest.approx(at_end, abs=1e-13 * largest)


@pytest.mark.parametrize("theta", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("algorithm", INTERPOLATED, ids=str)
def test_the_interpolant_has_its_order(algorithm: ExplicitRungeKutta, theta: float) -> None:
    """At the fraction θ of a step, a condition's value is that of a step as short: θ^order / γ."""
    tableau = algorithm.tableau
    weights = tableau.weights_at(theta)
    tolerance = 1e-12 if algorithm.order < 9 else 2e-11
    for order in range(1, DENSE_ORDERS[algorithm.name] + 1):
        for tree in trees(order):
            value = dot(weights, elementary_weights(tableau, tree))
            assert value == pytest.approx(theta**order / density(tree), abs=tolerance)
    assert algorithm.interpolation_order == DENSE_ORDERS[algorithm.name]


def test_which_methods_reuse_their_last_slope() -> None:
    reusing = {a.name for a in ALGORITHMS if a.tableau.first_same_as_last}
    assert reusing == {"Bosh3", "Dopri5", "Tsit5", "BS5"}


@pytest.mark.parametrize(
    ("algorithm", "orders"),
    [
        (Euler(), (1, None)),
        (AdaptiveHeun(), (2, 1)),
        (Bosh3(), (3, 2)),
        (Dopri5(), (5, 4)),
        (Tsit5(), (5, 4)),
        (Dopri8(), (8, 7)),
        (Ralston2(), (2, None)),
        (Ralston3(), (3, None)),
        (Ralston4(), (4, None)),
        (SSPRK33(), (3, None)),
        (SSPRK54(), (4, None)),
        (BS5(), (5, 4)),
        (Vern7(), (7, 6)),
        (Vern9(), (9, 8)),
    ],
    ids=str,
)
def test_what_a_method_says_of_itself(
    algorithm: ExplicitRungeKutta, orders: tuple[int, int | None]
) -> None:
    assert (algorithm.order, algorithm.embedded_order) == orders
    assert algorithm == type(algorithm)()
    assert algorithm.name in repr(algorithm)
