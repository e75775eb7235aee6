"""The methods of low order: each a tableau, an order and a citation."""

from math import sqrt

from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau


class Euler(ExplicitRungeKutta):
    """Euler's method, order 1, one evaluation a step."""

    order = 1
    tableau = ButcherTableau(a=(), b=(1.0,), c=(0.0,))


class Midpoint(ExplicitRungeKutta):
    """The explicit midpoint rule, order 2 (Runge 1895), two evaluations a step."""

    order = 2
    tableau = ButcherTableau(a=((1 / 2,),), b=(0.0, 1.0), c=(0.0, 1 / 2))


class Heun(ExplicitRungeKutta):
    """Heun's method, the explicit trapezoidal rule, order 2, for fixed steps."""

    order = 2
    tableau = ButcherTableau(a=((1.0,),), b=(1 / 2, 1 / 2), c=(0.0, 1.0))


class AdaptiveHeun(ExplicitRungeKutta):
    """Heun's method of order 2 with an embedded solution of order 1.

    The embedded solution lies a quarter of the way from Heun's to Euler's. With Euler's own, as in
    the textbook pair, the estimate is Euler's error, and the steps are half as long as the
    tolerance asks for; the solution stays as near the tolerance as that of the other methods here.
    """

    order = 2
    lower_order = 1
    tableau = ButcherTableau(a=((1.0,),), b=(1 / 2, 1 / 2), c=(0.0, 1.0), b_embedded=(5 / 8, 3 / 8))


class RK4(ExplicitRungeKutta):
    """The classic Runge-Kutta method, order 4 (Kutta 1901), four evaluations a step."""

    order = 4
    tableau = ButcherTableau(
        a=((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
    )


class RK38(ExplicitRungeKutta):
    """The 3/8 rule, order 4 (Kutta 1901), four evaluations a step.

    It is what torchdiffeq, and so the code of Finlay et al. (2020), calls ``rk4``.
    """

    order = 4
    tableau = ButcherTableau(
        a=((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
        c=(0.0, 1 / 3, 2 / 3, 1.0),
    )


class Ralston2(ExplicitRungeKutta):
    """Order 2 with the smallest bound of the local error: Ralston, Math. Comp. 16, 1962."""

    order = 2
    tableau = ButcherTableau(a=((2 / 3,),), b=(1 / 4, 3 / 4), c=(0.0, 2 / 3))


class Ralston3(ExplicitRungeKutta):
    """Order 3 with the smallest bound of the local error: Ralston, Math. Comp. 16, 1962."""

    order = 3
    tableau = ButcherTableau(
        a=((1 / 2,), (0.0, 3 / 4)), b=(2 / 9, 1 / 3, 4 / 9), c=(0.0, 1 / 2, 3 / 4)
    )


class Ralston4(ExplicitRungeKutta):
    """Order 4 with the smallest bound of the local error: Ralston, Math. Comp. 16, 1962."""

    order = 4
    tableau = ButcherTableau(
        a=(
            (2 / 5,),
            ((-2889 + 1428 * sqrt(5)) / 1024, (3785 - 1620 * sqrt(5)) / 1024),
            (
                (-3365 + 2094 * sqrt(5)) / 6040,
                (-975 - 3046 * sqrt(5)) / 2552,
                (467040 + 203968 * sqrt(5)) / 240845,
            ),
        ),
        b=(
            (263 + 24 * sqrt(5)) / 1812,
            (125 - 1000 * sqrt(5)) / 3828,
            1024 * (3346 + 1623 * sqrt(5)) / 5924787,
            (30 - 4 * sqrt(5)) / 123,
        ),
        c=(0.0, 2 / 5, (14 - 3 * sqrt(5)) / 16, 1.0),
    )


class Bosh3(ExplicitRungeKutta):
    """Order 3(2), first same as last: Bogacki & Shampine, Appl. Math. Lett. 2(4), 1989."""

    order = 3
    lower_order = 2
    tableau = ButcherTableau(
        a=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        b_embedded=(7 / 24, 1 / 4, 1 / 3, 1 / 8),
    )
