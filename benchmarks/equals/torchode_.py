"""The problems in torchode: explicit methods of order 5, every sample by itself."""

# ruff: noqa: D103
import torch
import torchode
from networks import Net
from problems import PROBLEMS as P
from problems import RATES, damping, samples, weights


def start(name):
    return torch.tensor([P[name].start], dtype=torch.float64)


def solver(field, tolerance, method=torchode.Tsit5, **how):
    term = torchode.ODETerm(field, **how)
    control = torchode.IntegralController(tolerance, tolerance, term=term)
    return torchode.AutoDiffAdjoint(method(term=term), control)


def problem(x0, end):
    ends = torch.full((len(x0),), end, dtype=x0.dtype)
    return torchode.InitialValueProblem(y0=x0, t_start=torch.zeros_like(ends), t_end=ends)


def prey(see):
    @see
    def field(t, x):
        u, v = x.unbind(-1)
        return torch.stack([1.5 * u - u * v, u * v - 3 * v], -1)

    solve, given = solver(field, 1e-6), problem(start("prey"), P["prey"].end)
    return lambda: (solve.solve(given).ys[0, -1], None)


def orbit(see):
    @see
    def field(t, x):
        q, p = x.split(2, -1)
        return torch.cat([p, -q / q.norm(dim=-1, keepdim=True) ** 3], -1)

    solve, given = solver(field, 1e-10), problem(start("orbit"), P["orbit"].end)
    return lambda: (solve.solve(given).ys[0, -1], None)


def batch(see):
    mu = torch.from_numpy(damping())[:, None]

    @see
    def field(t, x):
        u, v = x.split(1, -1)
        return torch.cat([v, mu * (1 - u**2) * v - u], -1)

    given = problem(start("batch").expand(len(mu), 2), P["batch"].end)
    solve = solver(field, 1e-6)
    return lambda: (solve.solve(given).ys[::100, -1], None)


def neural(see):
    net = Net(weights())
    parts, net = list(net.parameters()), see(net)
    solve, given = solver(net, 1e-5), problem(torch.from_numpy(samples()), 1.0)

    def go():
        x = solve.solve(given).ys[:, -1]
        return x, torch.autograd.grad(x.square().mean(), parts)

    return go


def rates(see):
    p = torch.tensor(RATES, dtype=torch.float64, requires_grad=True)

    @see
    def field(t, x):
        (a, b, c, d), (u, v) = p, x.unbind(-1)
        return torch.stack([a * u - b * u * v, d * u * v - c * v], -1)

    solve, given = solver(field, 1e-6), problem(start("rates"), P["rates"].end)

    def go():
        x = solve.solve(given).ys[0, -1]
        return x, torch.autograd.grad(x.sum(), p)[0]

    return go
