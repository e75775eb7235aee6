"""The problems in this package. A function's lines are what a user would write, and are counted."""

# ruff: noqa: D103
from problems import (
    DRAG,
    GRAVITY,
    PROBLEMS,
    RATES,
    ROBERTSON,
    STIFFNESS,
    damping,
    samples,
    weights,
)  # fmt: skip

from rnode_dyn import (
    AdaptiveStep,
    Event,
    ODEProblem,
    Rodas5P,
    Solver,
    Tsit5,
    Vern9,
    solve,
)  # fmt: skip

# isort: split
import torch  # after rnode_dyn, which lets Lightning import beside a CPU torch
from networks import Net

P = PROBLEMS


def start(name):
    return torch.tensor([P[name].start], dtype=torch.float64)


def prey(see):
    @see
    def field(t, x):
        u, v = x.unbind(-1)
        return torch.stack([1.5 * u - u * v, u * v - 3 * v], -1)

    problem = ODEProblem(field, start("prey"), (0.0, P["prey"].end))
    solver = Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6))
    return lambda: (solve(problem, solver).x[-1, 0], None)


def orbit(see):
    @see
    def field(t, x):
        q, p = x.split(2, -1)
        return torch.cat([p, -q / q.norm(dim=-1, keepdim=True) ** 3], -1)

    problem = ODEProblem(field, start("orbit"), (0.0, P["orbit"].end))
    solver = Solver(Vern9(), AdaptiveStep(1e-10, 1e-10))
    return lambda: (solve(problem, solver).x[-1, 0], None)


def pol(see):
    @see
    def field(t, x):
        u, v = x.unbind(-1)
        return torch.stack([v, STIFFNESS * (1 - u**2) * v - u], -1)

    problem = ODEProblem(field, start("pol"), (0.0, P["pol"].end))
    solver = Solver(Rodas5P(), AdaptiveStep(1e-6, 1e-6))
    return lambda: (solve(problem, solver).x[-1, 0], None)


def robertson(see):
    slow, fast, back = ROBERTSON

    @see
    def field(t, x):
        u, v, w = x.unbind(-1)
        first, second = slow * u - back * v * w, fast * v**2
        return torch.stack([-first, first - second, second], -1)

    problem = ODEProblem(field, start("robertson"), (0.0, P["robertson"].end))
    solver = Solver(Rodas5P(), AdaptiveStep(1e-6, 1e-10))
    return lambda: (solve(problem, solver).x[-1, 0], None)


def fall(see):
    gravity = torch.tensor(GRAVITY, dtype=torch.float64, requires_grad=True)

    @see
    def field(t, x):
        return torch.stack([x[:, 1], -gravity + DRAG * x[:, 1] ** 2], -1)

    problem = ODEProblem(field, start("fall"), (0.0, P["fall"].end))
    solver = Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8))
    ground = Event(lambda t, x: x[:, 0])

    def go():
        time = solve(problem, solver, events=[ground]).event_times[0]
        return time, torch.autograd.grad(time.sum(), gravity)[0]

    return go


def batch(see):
    mu = torch.from_numpy(damping())[:, None]

    class Oscillators:
        takes_times = True

        def __init__(self, mu):
            self.mu = mu

        @see
        def __call__(self, t, x):
            u, v = x.split(1, -1)
            return torch.cat([v, self.mu * (1 - u**2) * v - u], -1)

        def of_samples(self, samples):
            return Oscillators(self.mu[samples])

    problem = ODEProblem(Oscillators(mu), start("batch").expand(len(mu), 2), (0.0, 10.0))
    solver = Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6, per_sample=True))
    return lambda: (solve(problem, solver).x[-1, ::100], None)


def neural(see):
    net = Net(weights())
    parts, net = list(net.parameters()), see(net)
    problem = ODEProblem(net, torch.from_numpy(samples()), (0.0, 1.0))
    solver = Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5))

    def go():
        x = solve(problem, solver).x[-1]
        return x, torch.autograd.grad(x.square().mean(), parts)

    return go


def rates(see):
    p = torch.tensor(RATES, dtype=torch.float64, requires_grad=True)

    @see
    def field(t, x):
        (a, b, c, d), (u, v) = p, x.unbind(-1)
        return torch.stack([a * u - b * u * v, d * u * v - c * v], -1)

    problem = ODEProblem(field, start("rates"), (0.0, P["rates"].end))
    solver = Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6))

    def go():
        x = solve(problem, solver).x[-1, 0]
        return x, torch.autograd.grad(x.sum(), p)[0]

    return go
