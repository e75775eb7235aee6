"""The eight problems, in plain numbers, and what the answers should be."""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

Array = np.ndarray


@dataclass(frozen=True)
class Problem:
    """What everybody solves.

    Attributes:
        name: Its title.
        start: State at the start; a batch where there are several.
        end: Time at the end.
        tolerance: Relative and absolute.
        wants_gradient: Whether a gradient is part of it.
    """

    name: str
    start: tuple
    end: float
    tolerance: float
    wants_gradient: bool = False


RATES = (1.5, 1.0, 3.0, 1.0)
ROBERTSON = (0.04, 3e7, 1e4)
STIFFNESS = 1000.0
GRAVITY, DRAG, HEIGHT = 9.81, 0.1, 10.0
MEMBERS, HARDEST = 1000, 10.0
WIDTH, SAMPLES = 64, 256

PROBLEMS = {
    "prey": Problem("Lotka-Volterra, non-stiff, 1e-6", (1.0, 1.0), 20.0, 1e-6),
    "orbit": Problem("Kepler orbit, ten turns, 1e-10", (0.7, 0.0, 0.0, 1.3627702877384937),
                     20 * np.pi, 1e-10),
    "pol": Problem("van der Pol, μ = 1000, stiff, 1e-6", (2.0, 0.0), 2000.0, 1e-6),
    "robertson": Problem("Robertson, stiff, 1e-6", (1.0, 0.0, 0.0), 1e5, 1e-6),
    "fall": Problem("Falling body: time of impact and its gradient, 1e-8", (HEIGHT, 0.0), 5.0,
                    1e-8, True),
    "batch": Problem("1,000 oscillators of different stiffness, 1e-6", (2.0, 0.0), 10.0, 1e-6),
    "neural": Problem("Neural field, batch 256, gradient of 4,482 weights, 1e-5", (), 1.0, 1e-5,
                      True),
    "rates": Problem("Lotka-Volterra, gradient of four rates, 1e-6", (1.0, 1.0), 10.0, 1e-6,
                     True),
}  # fmt: skip


def weights() -> list[Array]:
    """Weights and biases of the neural field: 2 to 64 to 64 to 2, tanh between."""
    draw = np.random.default_rng(0)
    sizes = [(2, WIDTH), (WIDTH, WIDTH), (WIDTH, 2)]
    pairs = [(draw.normal(size=s) * 1.5 / s[0] ** 0.5, 0.1 * draw.normal(size=s[1])) for s in sizes]
    return [part.astype("float32") for pair in pairs for part in pair]


def samples() -> Array:
    """Where the neural field starts."""
    return np.random.default_rng(1).normal(size=(SAMPLES, 2)).astype("float32")


def damping() -> Array:
    """The μ of every oscillator of the batch."""
    return np.linspace(0.1, HARDEST, MEMBERS)


def prey(t: float, x: Array, rates: Array = np.array(RATES)) -> Array:  # noqa: B008
    """Lotka and Volterra's prey and hunters."""
    a, b, c, d = rates
    return np.array([a * x[0] - b * x[0] * x[1], d * x[0] * x[1] - c * x[1]])


def orbit(t: float, x: Array) -> Array:
    """A comet around the sun."""
    return np.concatenate([x[2:], -x[:2] / np.hypot(*x[:2]) ** 3])


def pol(t: float, x: Array) -> Array:
    """Van der Pol's oscillator."""
    return np.array([x[1], STIFFNESS * (1 - x[0] ** 2) * x[1] - x[0]])


def robertson(t: float, x: Array) -> Array:
    """Robertson's reaction."""
    slow, fast, back = ROBERTSON
    first, second = slow * x[0] - back * x[1] * x[2], fast * x[1] ** 2
    return np.array([-first, first - second, second])


def reference(name: str) -> tuple[Array, Array | None]:
    """End state and gradient that other means find, or these at far smaller tolerances."""
    if name == "fall":
        # v = √(g/k) tanh(√(g k) t), so that the way is ln cosh(√(g k) t) / k.
        time = np.arccosh(np.exp(DRAG * HEIGHT)) / np.sqrt(GRAVITY * DRAG)
        return np.array(time), np.array(-time / (2 * GRAVITY))
    if name == "batch":
        return np.stack([_oscillator(mu) for mu in damping()[::100]]), None
    if name == "orbit":
        return np.array(PROBLEMS[name].start), None  # ten whole turns
    if name == "rates":
        return _end(prey, name, "DOP853"), np.array(_by_rates())
    fields = {"prey": (prey, "DOP853"), "pol": (pol, "Radau"), "robertson": (robertson, "Radau")}
    field, method = fields[name]
    return _end(field, name, method), None


def _end(field, name: str, method: str, *args: object) -> Array:
    problem = PROBLEMS[name]
    span = (0.0, problem.end)
    rtol = 1e-12 if method == "DOP853" else 1e-9
    tight = {"rtol": rtol, "atol": rtol / 1e4, "args": args or None}
    return solve_ivp(field, span, problem.start, method=method, **tight).y[:, -1]


def _oscillator(mu: float) -> Array:
    def field(t: float, x: Array) -> Array:
        return np.array([x[1], mu * (1 - x[0] ** 2) * x[1] - x[0]])

    return _end(field, "batch", "DOP853")


def _by_rates() -> list[float]:
    """Gradient of the sum of the end state, by central differences of tight solves."""
    h, rates = 1e-4, np.array(RATES)
    moves = h * np.eye(4)

    def total(given: Array) -> float:
        return float(_end(prey, "rates", "DOP853", given).sum())

    def slope(move: Array) -> float:
        near = (total(rates + move) - total(rates - move)) / (2 * h)
        far = (total(rates + 2 * move) - total(rates - 2 * move)) / (4 * h)
        return (4 * near - far) / 3

    return [slope(move) for move in moves]
