"""Methods that keep strong stability: what Euler's method does not let grow, they do not either."""

from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau


class SSPRK33(ExplicitRungeKutta):
    """Order 3, three stages: Shu & Osher, J. Comput. Phys. 77, 1988.

    Total variation, positivity or any other convex bound that Euler's steps of length dt keep,
    its steps of length dt keep too.
    """

    order = 3
    tableau = ButcherTableau(
        a=((1.0,), (1 / 4, 1 / 4)), b=(1 / 6, 1 / 6, 2 / 3), c=(0.0, 1.0, 1 / 2)
    )


class SSPRK54(ExplicitRungeKutta):
    """Order 4, five stages: Spiteri & Ruuth, SIAM J. Numer. Anal. 40(2), 2002.

    What Euler's steps of length dt keep, its steps of length 1.508 dt keep too; with four stages
    no method of order 4 keeps anything.
    """

    order = 4
    tableau = ButcherTableau(
        a=(
            (0.39175222657189,),
            (0.21766909626116876, 0.368410593050371),
            (0.08269208665781058, 0.13995850219189535, 0.251891774271694),
            (0.06796628363711475, 0.11503469850463156, 0.20703489859738566, 0.544974750228521),
        ),
        b=(
            0.14681187608478657,
            0.24848290944497617,
            0.10425883033198098,
            0.2744389009013507,
            0.226007483236906,
        ),
        c=(0.0, 0.39175222657189, 0.5860796893115398, 0.47454236312139997, 0.935010630967653),
    )
