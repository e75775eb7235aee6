"""The coefficients obey the equations that make them a method of their order."""

import math
from collections.abc import Sequence
from functools import cache

import pytest

from rnode_dyn import AdaptiveHeun, Bosh3, Dopri5, Dopri8, Euler, Tsit5
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from tests.numerics.cases import ALGORITHMS, EMBEDDED

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
    rows = ((), *tableau.a)
    branches = [elementary_weights(tableau, branch) for branch in tree]
    return [math.prod(dot(row, branch[: len(row)]) for branch in branches) for row in rows]


def defect(tableau: ButcherTableau, weights: Sequence[float], order: int) -> float:
    """How far ``weights`` miss the worst condition of this order: b · Φ(tree) = 1 / γ(tree).

    Hairer, Nørsett & Wanner, Solving ODEs I, theorem II.2.13.
    """
    return max(
        abs(dot(weights, elementary_weights(tableau, tree)) - 1 / density(tree))
        for tree in trees(order)
    )


def test_the_trees_are_all_there() -> None:
    assert [len(trees(order)) for order in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_stage_lies_at_its_time(algorithm: ExplicitRungeKutta) -> None:
    tableau = algorithm.tableau
    assert [len(row) for row in tableau.a] == list(range(1, tableau.stages))
    assert [math.fsum(row) for row in tableau.a] == pytest.approx(tableau.c[1:], abs=1e-14)


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
    assert tableau.weights_at(0.0) == pytest.approx([0.0] * tableau.stages)
    assert tableau.weights_at(1.0) == pytest.approx(tableau.b, abs=1e-14)
    first = [row[0] for row in tableau.interpolant]
    last = [dot(row, range(1, len(row) + 1)) for row in tableau.interpolant]
    assert first == pytest.approx([1.0] + [0.0] * (tableau.stages - 1), abs=1e-13)
    assert last == pytest.approx([0.0] * (tableau.stages - 1) + [1.0], abs=1e-12)


@pytest.mark.parametrize("theta", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("algorithm", INTERPOLATED, ids=str)
def test_the_interpolant_is_of_order_four(algorithm: ExplicitRungeKutta, theta: float) -> None:
    """At the fraction θ of a step, a condition's value is that of a step as short: θ^order / γ."""
    tableau = algorithm.tableau
    weights = tableau.weights_at(theta)
    for order in range(1, 5):
        for tree in trees(order):
            value = dot(weights, elementary_weights(tableau, tree))
            assert value == pytest.approx(theta**order / density(tree), abs=1e-13)


def test_which_methods_reuse_their_last_slope() -> None:
    reusing = {a.name for a in ALGORITHMS if a.tableau.first_same_as_last}
    assert reusing == {"Bosh3", "Dopri5", "Tsit5"}


@pytest.mark.parametrize(
    ("algorithm", "orders"),
    [
        (Euler(), (1, None)),
        (AdaptiveHeun(), (2, 1)),
        (Bosh3(), (3, 2)),
        (Dopri5(), (5, 4)),
        (Tsit5(), (5, 4)),
        (Dopri8(), (8, 7)),
    ],
    ids=str,
)
def test_what_a_method_says_of_itself(
    algorithm: ExplicitRungeKutta, orders: tuple[int, int | None]
) -> None:
    assert (algorithm.order, algorithm.embedded_order) == orders
    assert algorithm == type(algorithm)()
    assert algorithm.name in repr(algorithm)
