"""The problems in SciPy, which knows no gradient: differences of the answer stand in for it."""

# ruff: noqa: D103
import numpy as np
from problems import DRAG, GRAVITY, RATES, ROBERTSON, STIFFNESS, damping
from problems import PROBLEMS as P
from scipy.integrate import solve_ivp
from scipy.optimize import approx_fprime


def prey(see):
    @see
    def field(t, x):
        u, v = x
        return [1.5 * u - u * v, u * v - 3 * v]

    how = {"rtol": 1e-6, "atol": 1e-6, "method": "RK45"}
    return lambda: (solve_ivp(field, (0, P["prey"].end), P["prey"].start, **how).y[:, -1], None)


def orbit(see):
    @see
    def field(t, x):
        q, p = x[:2], x[2:]
        return np.concatenate([p, -q / np.linalg.norm(q) ** 3])

    how = {"rtol": 1e-10, "atol": 1e-10, "method": "DOP853"}
    return lambda: (solve_ivp(field, (0, P["orbit"].end), P["orbit"].start, **how).y[:, -1], None)


def pol(see):
    @see
    def field(t, x):
        u, v = x
        return [v, STIFFNESS * (1 - u**2) * v - u]

    how = {"rtol": 1e-6, "atol": 1e-6, "method": "Radau"}
    return lambda: (solve_ivp(field, (0, P["pol"].end), P["pol"].start, **how).y[:, -1], None)


def robertson(see):
    slow, fast, back = ROBERTSON

    @see
    def field(t, x):
        u, v, w = x
        first, second = slow * u - back * v * w, fast * v**2
        return [-first, first - second, second]

    span, how = (0, P["robertson"].end), {"rtol": 1e-6, "atol": 1e-10, "method": "Radau"}
    return lambda: (solve_ivp(field, span, P["robertson"].start, **how).y[:, -1], None)


def fall(see):
    @see
    def field(t, x, gravity):
        return [x[1], -gravity + DRAG * x[1] ** 2]

    def ground(t, x, gravity):
        return x[0]

    ground.terminal = True
    how = {"rtol": 1e-8, "atol": 1e-8, "events": ground}

    def time(gravity):
        span, start = (0, P["fall"].end), P["fall"].start
        return solve_ivp(field, span, start, args=(gravity[0],), **how).t_events[0][0]

    g = np.array([GRAVITY])
    return lambda: (time(g), approx_fprime(g, time, 1e-4)[0])


def batch(see):
    mu = damping()

    @see
    def field(t, x):
        u, v = x.reshape(2, -1)
        return np.concatenate([v, mu * (1 - u**2) * v - u])

    x0 = np.repeat(P["batch"].start, len(mu))
    how = {"rtol": 1e-6, "atol": 1e-6, "method": "RK45"}

    def go():
        x = solve_ivp(field, (0, P["batch"].end), x0, **how).y[:, -1]
        return x.reshape(2, -1).T[::100], None

    return go


def rates(see):
    @see
    def field(t, x, a, b, c, d):
        u, v = x
        return [a * u - b * u * v, d * u * v - c * v]

    how = {"rtol": 1e-6, "atol": 1e-6, "method": "RK45"}

    def end(p):
        return solve_ivp(field, (0, P["rates"].end), P["rates"].start, args=p, **how).y[:, -1]

    p = np.array(RATES)
    return lambda: (end(p), approx_fprime(p, lambda p: end(p).sum(), 1e-4))
